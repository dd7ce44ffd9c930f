"""Record what the software computes, and compare two recordings to the bit.

Only the commands and what the packages export are used, so that the same program runs before and after modules have moved:

    python -m tests.same_results WORK RECORDING.json --data ../shared/data
    python -m tests.same_results OTHER_WORK OTHER.json --data ../shared/data --against RECORDING.json
"""
