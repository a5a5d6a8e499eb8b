"""Clocks that sleep, jump, start in 1970 or disagree, and records that spell time in other ways."""
