"""What starts the rest: notebooks without a person, commands, checks."""
