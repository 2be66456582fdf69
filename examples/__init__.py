"""Runnable applications, each run by a test."""
