"""Implements `penstock bench`; each figure has a reference run in the same minute."""
