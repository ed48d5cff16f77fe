"""The only wiring: one module a verb; jobs open data, build models and hand them from room to room."""
