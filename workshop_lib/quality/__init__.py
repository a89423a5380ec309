"""Are the answers good? An aspect check, people, a judge model, and how far they agree."""
