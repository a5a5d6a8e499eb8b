"""One JSON file for each session: `store.FilesystemOAuthTokenStore`."""
