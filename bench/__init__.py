"""`penstock bench`: figures of this machine, each beside something that was run in the same minute."""
