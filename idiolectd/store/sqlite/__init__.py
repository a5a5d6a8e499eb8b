"""One row for each session: `store.SqliteOAuthTokenStore`."""
