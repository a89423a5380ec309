"""Tables, figures, sentences and reports."""
