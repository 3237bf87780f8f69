from server.zero_engine import ZeroEngine
from worldmodel.engine import WorldEngine
from worldmodel.testing import EngineConformance


class TestZeroEngine(EngineConformance):
    scenarios = ("zero", "zero-short")

    def make_engine(self) -> WorldEngine:
        return ZeroEngine()
