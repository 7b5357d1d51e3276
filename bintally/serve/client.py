"""The client: sends photos to an endpoint, waits when it is told to, and draws the answer onto the photo."""

import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from bintally import pixels
from bintally.errors import EndpointError, MissingExtraError, UsageError

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSettings:
    """How patient the client is.

    Attributes:
        timeout_s: for one attempt.
        attempts: how often a photo is sent before giving up.
        longest_wait_s: the most that is waited between two attempts, whatever `Retry-After` says.
        region: of a SageMaker endpoint; AWS_REGION or the profile's when empty.
    """

    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    attempts: Annotated[int, Field(ge=1)] = 6
    longest_wait_s: Annotated[float, Field(gt=0)] = 10.0
    region: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer off the wire. `status` 0 means that there was none, and `body` says why."""

    status: int
    body: bytes
    retry_after: str = ""


class Endpoint(Protocol):
    """Where photos are sent."""

    name: str

    def send(self, photo: bytes, content_type: str) -> Heard:
        """Sends one photo, once."""

    def close(self) -> None:
        """Lets the connection go."""


class HttpEndpoint:
    """A server of `bintally serve`, by the URL of its root or of its `/invocations`."""

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 60.0) -> None:
        import httpx

        path = urlsplit(url).path.rstrip("/")
        self.name = url if path.endswith("/invocations") else url.rstrip("/") + "/invocations"
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=timeout_s, headers=headers)
        self._failed = httpx.HTTPError

    def send(self, photo: bytes, content_type: str) -> Heard:
        """Sends one photo, once."""
        try:
            answer = self._client.post(self.name, content=photo, headers={"content-type": content_type})
        except self._failed as error:
            return Heard(0, (str(error) or type(error).__name__).encode())
        return Heard(answer.status_code, answer.content, answer.headers.get("retry-after", ""))

    def close(self) -> None:
        """Lets the connection go."""
        self._client.close()


class SageMakerEndpoint:
    """A hosted endpoint, by its name; region and credentials as boto3 finds them."""

    def __init__(self, name: str, *, timeout_s: float = 60.0, region: str = "") -> None:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "boto3", "cloud") from error
        self.name = f"sagemaker://{name}"
        self._endpoint = name
        self._refused, self._failed = ClientError, BotoCoreError
        self._unknown = (NoCredentialsError, CredentialRetrievalError)
        # The waiting is ours: boto3's own attempts would not show.
        config = Config(retries={"total_max_attempts": 1}, read_timeout=timeout_s, connect_timeout=10)
        try:
            self._client = boto3.Session().client(
                "sagemaker-runtime", region_name=region or os.environ.get("AWS_REGION"), config=config
            )
        except BotoCoreError as error:
            raise EndpointError(f"{self.name}: {error}") from error

    def send(self, photo: bytes, content_type: str) -> Heard:
        """Sends one photo, once."""
        try:
            answer = self._client.invoke_endpoint(
                EndpointName=self._endpoint, Body=photo, ContentType=content_type, Accept="application/json"
            )
        except self._refused as error:
            return _refusal(error.response)
        except self._unknown as error:
            raise EndpointError(f"{self.name}: there are no AWS credentials to ask it with: {error}") from error
        except self._failed as error:
            return Heard(0, str(error).encode())
        return Heard(200, answer["Body"].read())

    def close(self) -> None:
        """Lets the connection go."""
        self._client.close()


def _refusal(response: Mapping[str, Any]) -> Heard:
    told, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    status = int(response.get("OriginalStatusCode") or meta.get("HTTPStatusCode", 0))
    message = str(response.get("OriginalMessage") or told.get("Message", ""))
    if told.get("Code") == "ThrottlingException":
        status = 503  # the service's own word for "try again"
    return Heard(status, message.encode(), meta.get("HTTPHeaders", {}).get("retry-after", ""))


def endpoint_of(address: str, *, token: str = "", settings: PredictSettings | None = None) -> Endpoint:
    """The endpoint behind `http(s)://…` or `sagemaker://name`.

    Raises:
        UsageError: the address is neither.
        MissingExtraError: boto3 is needed and not installed.
    """
    settings = settings or PredictSettings()
    parts = urlsplit(address)
    if parts.scheme in {"http", "https"} and parts.netloc:
        return HttpEndpoint(address, token=token, timeout_s=settings.timeout_s)
    if parts.scheme == "sagemaker" and parts.netloc and not parts.path.strip("/"):
        return SageMakerEndpoint(parts.netloc, timeout_s=settings.timeout_s, region=settings.region)
    raise UsageError(f"{address!r} is no endpoint: write http://host:port, https://host or sagemaker://name")


def predict(
    endpoint: Endpoint, photo: bytes, settings: PredictSettings, *, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """One photo's answer, as `/invocations` gives it; `{"error": reason}` for a photo that cannot be read.

    Waits and sends again when the server is full (503), or cannot be reached, as the settings allow.

    Raises:
        EndpointError: there was no answer, or a refusal that concerns more than this photo.
    """
    content_type = "image/png" if photo.startswith(_PNG) else "image/jpeg"
    heard = Heard(0, b"not asked")
    for attempt in range(settings.attempts):
        heard = endpoint.send(photo, content_type)
        if heard.status == 200:
            return _answer(heard, endpoint.name)
        if heard.status in {413, 422}:
            return {"error": _reason(heard)}
        if heard.status not in {0, 429, 502, 503}:
            break
        if attempt + 1 < settings.attempts:
            sleep(_wait(heard.retry_after, attempt, settings.longest_wait_s))
    if heard.status == 0:
        raise EndpointError(f"no answer from {endpoint.name}: {_reason(heard)}; is the server running?")
    hint = {401: "; give its token by --token", 404: "; give the server's root, or its /invocations"}
    raise EndpointError(
        f"{endpoint.name} answered {heard.status}: {_reason(heard)}{hint.get(heard.status, '')}"
        + (f" ({settings.attempts} attempts)" if heard.status in {429, 502, 503} else "")
    )


def _wait(told: str, attempt: int, longest: float) -> float:
    wanted = float(told) if told.isdigit() else 0.25 * 2**attempt
    return min(wanted, longest)


def _answer(heard: Heard, name: str) -> dict[str, Any]:
    try:
        body = json.loads(heard.body)
    except ValueError as error:
        raise EndpointError(f"{name} answered with something that is not JSON: is it a bintally server?") from error
    if not isinstance(body, dict) or not isinstance(body.get("count"), int) or "range" not in body:
        raise EndpointError(f"{name} answered without a count: is it a bintally server?")
    return body


def _reason(heard: Heard) -> str:
    text = heard.body.decode(errors="replace")
    try:
        body = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:300] or "no reason given"
    told = body.get("error") if isinstance(body, dict) else None
    return " ".join(str(told or text).split())[:300]


def draw(photo: bytes, answer: Mapping[str, Any]) -> bytes:
    """The photo as a JPEG, with its count and the range of counts on a strip below.

    Raises:
        UnreadablePhotoError: the photo cannot be read here.
    """
    image = Image.fromarray(pixels.decode(photo))
    scale = max(1.0, 320 / image.width)  # so that the words fit
    if scale > 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)))
    size = max(16, image.width // 16)
    strip = Image.new("RGB", (image.width, size * 2), "black")
    pen = ImageDraw.Draw(strip)
    level = round(100 * answer["range"]["level"])
    words = (
        f"{answer['name']} item{'' if answer['name'] == '1' else 's'} ({100 * answer['probability']:.0f} %), "
        f"{answer['range']['name']} at {level} %"
    )
    pen.text((size // 2, size // 2), words, fill="white", font=_font(size, pen, words, image.width - size))
    whole = Image.new("RGB", (image.width, image.height + strip.height))
    whole.paste(image)
    whole.paste(strip, (0, image.height))
    out = io.BytesIO()
    whole.save(out, "JPEG", quality=90)
    return out.getvalue()


def _font(size: int, pen: ImageDraw.ImageDraw, words: str, room: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    font = ImageFont.load_default(size)
    while size > 8 and pen.textlength(words, font) > room:
        size -= 1
        font = ImageFont.load_default(size)
    return font
