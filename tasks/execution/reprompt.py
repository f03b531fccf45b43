"""Builds the next request after an invalid or truncated reply. Pure.

Only the last complaint is sent: earlier ones confuse the model and cost money.
"""

from schemas.jsons import JsonObject

MAX_QUOTED_REPLY_CHARACTERS = 8_000
MAX_EXTENDED_OUTPUT_TOKENS = 32_768

_MARK = "Your previous reply was not accepted: "


def with_complaint(original: JsonObject, reply_text: str | None, complaint: str) -> JsonObject:
    """Append the last rejected reply and its complaint to the original request."""
    quoted = (reply_text or "")[:MAX_QUOTED_REPLY_CHARACTERS]
    messages = list(original.get("messages", ()))
    if quoted:
        messages.append({"role": "assistant", "content": quoted})
    messages.append(
        {
            "role": "user",
            "content": f"{_MARK}{complaint}\nReply again with the corrected JSON only, without any other text.",
        }
    )
    return {**original, "messages": messages}


def with_more_room(body: JsonObject, used_tokens: int) -> JsonObject | None:
    """Double the output limit; None when it cannot grow."""
    limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((count for count in limits if isinstance(count, int) and count > 0), used_tokens)
    wider = min(2 * max(limit, used_tokens, 1), MAX_EXTENDED_OUTPUT_TOKENS)
    if wider <= limit:
        return None
    others = {name: value for name, value in body.items() if name != "max_tokens"}
    return {**others, "max_completion_tokens": wider}
