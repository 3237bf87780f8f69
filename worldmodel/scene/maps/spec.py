"""What may be asked of a map: one model per kind. Unknown keys and values out of bounds are refused."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LaneWidth = Annotated[float, Field(ge=3.3, le=3.75)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    lane_width_m: LaneWidth = 3.5
    density: float = Field(
        1.0, ge=0.0, le=2.0, description="how many trees, poles, signs and so on, 1 is usual"
    )


class HighwaySpec(_Spec):
    """A divided highway with gentle bends; the ego's carriageway runs roughly eastwards."""

    kind: Literal["highway"] = "highway"
    lanes: int = Field(3, ge=2, le=4, description="per direction")
    length_m: float = Field(1200.0, ge=200.0, le=3000.0, description="length of the routes")
    curvature: float = Field(
        0.5, ge=0.0, le=1.0, description="0 is straight, 1 bends down to a radius of 500 m"
    )
    median_m: float = Field(4.0, ge=2.0, le=15.0)
    speed_limit_mps: float = Field(30.0, ge=15.0, le=36.0)


class TwoWaySpec(_Spec):
    """A rural road, one lane each way, nearly straight."""

    kind: Literal["two_way"] = "two_way"
    length_m: float = Field(600.0, ge=150.0, le=3000.0)
    curvature: float = Field(
        0.0, ge=0.0, le=1.0, description="0 is straight, 1 bends down to a radius of 300 m"
    )
    speed_limit_mps: float = Field(22.0, ge=8.0, le=28.0)


class MergeSpec(_Spec):
    """A carriageway that takes up an on-ramp."""

    kind: Literal["merge"] = "merge"
    lanes: int = Field(2, ge=2, le=3, description="of the carriageway, without the acceleration lane")
    ramp_radius_m: float = Field(80.0, ge=45.0, le=200.0)
    acceleration_lane_m: float = Field(200.0, ge=80.0, le=400.0)
    length_m: float = Field(
        400.0, ge=150.0, le=1500.0, description="of the carriageway after the acceleration lane"
    )
    speed_limit_mps: float = Field(27.0, ge=15.0, le=36.0)


class ExitSpec(_Spec):
    """A carriageway that an off-ramp leaves."""

    kind: Literal["exit"] = "exit"
    lanes: int = Field(2, ge=2, le=3, description="of the carriageway, without the deceleration lane")
    ramp_radius_m: float = Field(80.0, ge=45.0, le=200.0)
    deceleration_lane_m: float = Field(200.0, ge=80.0, le=400.0)
    length_m: float = Field(
        400.0, ge=150.0, le=1500.0, description="of the carriageway before the deceleration lane"
    )
    speed_limit_mps: float = Field(27.0, ge=15.0, le=36.0)


class RoundaboutSpec(_Spec):
    """A roundabout of one lane with four arms."""

    kind: Literal["roundabout"] = "roundabout"
    radius_m: float = Field(18.0, ge=15.0, le=30.0, description="of the ring's centre line")
    arm_length_m: float = Field(130.0, ge=70.0, le=300.0)
    crossings: bool = True
    speed_limit_mps: float = Field(13.9, ge=8.0, le=16.7)


class IntersectionSpec(_Spec):
    """A crossing of two streets with sidewalks; the street from west to east is the main one."""

    kind: Literal["intersection"] = "intersection"
    lanes: int = Field(1, ge=1, le=2, description="per direction, on all arms")
    arm_length_m: float = Field(130.0, ge=70.0, le=300.0)
    signalised: bool = True
    crossings: bool = True
    corner_radius_m: float = Field(7.0, ge=5.0, le=12.0)
    speed_limit_mps: float = Field(13.9, ge=8.0, le=16.7)


class UTurnSpec(_Spec):
    """A divided road with an opening in the median where the direction can be reversed."""

    kind: Literal["u_turn"] = "u_turn"
    lanes: int = Field(2, ge=1, le=3, description="per direction")
    median_m: float = Field(11.0, ge=9.5, le=20.0)
    approach_m: float = Field(150.0, ge=80.0, le=500.0, description="from the start to the opening")
    beyond_m: float = Field(150.0, ge=80.0, le=500.0, description="from the opening to the end")
    speed_limit_mps: float = Field(13.9, ge=8.0, le=19.5)


class RuralSpec(_Spec):
    """A winding country road, one lane each way; every seed is another road."""

    kind: Literal["rural"] = "rural"
    length_m: float = Field(900.0, ge=200.0, le=3000.0)
    min_radius_m: float = Field(70.0, ge=30.0, le=500.0, description="of the tightest bends")
    bend_share: Share = Field(0.7, description="share of the road that bends")
    hedges: Share = Field(0.3, description="share of the roadside behind hedges and fences")
    speed_limit_mps: float = Field(22.0, ge=8.0, le=28.0)


class UrbanSpec(_Spec):
    """A street with side streets, parked cars and buildings at the kerb; every seed is another street."""

    kind: Literal["urban"] = "urban"
    length_m: float = Field(400.0, ge=250.0, le=900.0)
    junctions: int = Field(3, ge=2, le=6)
    signalised: Share = Field(
        0.7, description="share of the junctions that have lights (the first always has, above 0)"
    )
    t_junctions: Share = Field(0.3, description="share of the junctions with a side street on one side only")
    curvature: float = Field(
        0.4, ge=0.0, le=1.0, description="0 is straight, 1 bends down to a radius of 80 m"
    )
    parking: Share = Field(0.7, description="share of the kerb with parking bays")
    crossings: bool = True
    speed_limit_mps: float = Field(13.9, ge=8.0, le=16.7)

    @model_validator(mode="after")
    def _junctions_fit(self) -> Self:
        if self.length_m < 75.0 * self.junctions:
            raise ValueError(
                f"expected length_m of at least 75 per junction ({75 * self.junctions}), got {self.length_m:g}"
            )
        return self


MapSpec = Annotated[
    HighwaySpec
    | TwoWaySpec
    | MergeSpec
    | ExitSpec
    | RoundaboutSpec
    | IntersectionSpec
    | UTurnSpec
    | RuralSpec
    | UrbanSpec,
    Field(discriminator="kind"),
]
