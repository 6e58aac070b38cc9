"""`python -m sauron_viz` is the command `sauron-viz`."""

from sauron_viz.cli import main

if __name__ == "__main__":
    main()
