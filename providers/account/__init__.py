"""Calls one provider account over HTTP."""
