"""What every served model needs: a name, a place in the cache, a child process."""
