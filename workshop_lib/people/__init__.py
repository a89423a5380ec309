"""People and second models at work on answers: annotation on screen and in spreadsheets, judging."""
