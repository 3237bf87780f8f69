"""The reference engine keeps the engine contract, byte for byte."""

from worldmodel.engine import WorldEngine
from worldmodel.reference.engine import ReferenceEngine
from worldmodel.testing import EngineConformance


class TestReferenceEngine(EngineConformance):
    scenarios = ("urban_cruise", "highway_cruise")

    def make_engine(self) -> WorldEngine:
        return ReferenceEngine()
