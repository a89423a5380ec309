"""Tables, figures and reports for people."""
