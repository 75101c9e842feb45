"""The question why: what every trigger concluded about one event."""

from fastapi import APIRouter

from tidegate.api.asking import EventUid, HouseDep, TextQuery
from tidegate.api.explaining import explained
from tidegate.api.models_explain import Explanation
from tidegate.api.openapi import problems

router = APIRouter(prefix="/api/v1/events", tags=["events"])


@router.get("/{uid}/explain", responses=problems(404, 422), summary="Tell why an event fired triggers, or did not")
async def explain_event(house: HouseDep, uid: EventUid, trigger: TextQuery = None) -> Explanation:
    """Tell what each trigger concluded: stored decisions, and the rules of that time where nothing is stored."""
    return await explained(house, uid, trigger)
