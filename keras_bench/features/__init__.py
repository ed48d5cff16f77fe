"""Runs a frozen network over images once and keeps what comes out."""
