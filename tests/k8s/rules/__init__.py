"""Mistakes that the rules of serving/deploy/lint notice, by the file of the rule."""
