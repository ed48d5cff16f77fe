"""Turns records into figures and tables; nothing here trains, predicts or imports TensorFlow."""
