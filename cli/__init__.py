"""DOOR: the operator's and the submitter's command line."""
