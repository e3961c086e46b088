"""``python -m fromnoise`` is the command ``fromnoise``."""

from fromnoise.cli import main

if __name__ == "__main__":
    main()
