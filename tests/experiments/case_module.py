"""What the cases call in Python."""

import os
import time


def double(value):
    return value * 2


def above(value, least=1):
    return value > least


def fails():
    raise ValueError("on purpose")


def says(text, configuration=None, secrets=None):
    print("this goes nowhere near the result")
    return {"text": text, "configuration": configuration, "secrets": sorted(secrets or {})}


def touches(path):
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


def rests(seconds):
    time.sleep(seconds)
    return seconds
