"""`python -m keras_bench.run` is `keras-bench run`."""

import sys

from keras_bench.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
