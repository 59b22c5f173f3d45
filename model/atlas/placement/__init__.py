"""Place experts on the devices of a serving engine: fit on one half of a sweep, judge on the other."""
