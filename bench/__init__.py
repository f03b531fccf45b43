"""Implements `penstock bench`: measures this machine, each figure beside a reference run in the same minute."""
