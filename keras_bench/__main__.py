"""`python -m keras_bench` is `keras-bench`."""

import sys

from keras_bench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
