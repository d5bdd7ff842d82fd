"""``python -m streambroker`` is the command ``streambroker``."""

from streambroker.cli import main

if __name__ == "__main__":
    main()
