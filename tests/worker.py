"""A process that calls functions by name: pickled requests on standard input, pickled answers on standard output."""

import os
import pickle
import sys
from importlib import import_module

if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed
    while True:
        try:
            module, name, arguments, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = getattr(import_module(module), name)(*arguments, **options)
            message = pickle.dumps((True, answer))
        except Exception as problem:
            message = pickle.dumps((False, problem))
        answers.write(message)
        answers.flush()
