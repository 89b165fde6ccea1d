"""x"""


def estimate(config):
    return "x a month"
