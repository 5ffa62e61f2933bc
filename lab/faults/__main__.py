"""`python -m lab.faults`."""

from lab.faults.report import main

if __name__ == "__main__":
    main()
