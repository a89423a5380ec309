"""What measures: the client with its stopwatch, the machine's meters, and how wrong they are themselves."""
