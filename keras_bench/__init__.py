"""keras-bench: which pretrained backbone should I ship for my images, and what does it cost?"""

__version__ = "0.1.0"
