"""`/quote`: estimates cost and duration before anything is sent."""

from fastapi import APIRouter

from api.answers import Json
from api.auth import AnyCaller
from api.native.serializers import quote_object
from api.openai.files import find_file
from api.requests import CHAT_SCHEMA, JsonBody, OfServices, StrictBody, body_of, new_job, parse, unchecked_parts
from schemas.lanes import Lane

router = APIRouter(tags=["quotes"])


class QuotedFile(StrictBody):
    """An uploaded batch file."""

    input_file_id: str


QUOTE_BODY = body_of({"anyOf": [QuotedFile.model_json_schema(), CHAT_SCHEMA]})


@router.post("/quote", openapi_extra=QUOTE_BODY)
async def quote(caller: AnyCaller, body: JsonBody, services: OfServices) -> Json:
    """Quote an uploaded batch file (`input_file_id`) or a chat completion."""
    if "input_file_id" not in body:
        job = new_job(body, caller, services, lane=Lane.NORMAL, idempotency_key=None)
        quoted = quote_object(await services.quotes.request(job))
        return Json(quoted | {"unchecked": unchecked_parts(job, services)})
    file = await find_file(parse(QuotedFile, body).input_file_id, caller, services.files)
    return Json(quote_object(await services.quotes.file(caller.tenant_id, file.id)))
