"""The state of an evaluation, of the same package."""

from pyautoattack.state import EvaluationState as EvaluationState
