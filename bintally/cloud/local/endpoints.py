"""Endpoints: each a program per variant that serves its model; created, updated, deleted, and asked by InvokeEndpoint."""

import random
import secrets
import shutil
import threading
from typing import Any

from bintally.cloud.local import logs
from bintally.cloud.local.models import Models, container_of
from bintally.cloud.local.names import CONFIG, ENDPOINT, list_page
from bintally.cloud.local.served import Replied, Served
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import Record, now, shown
from bintally.cloud.local.wire import Answer, Call, ServiceError, validation

MAX_BODY = 6_291_456
"""Bytes that an endpoint takes, and the gateway before it; a serverless one takes less."""
SERVERLESS_BODY = 4_194_304

_CHANGING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
_PASSED_ON = {
    "content-type": "Content-Type",
    "accept": "Accept",
    "x-amzn-sagemaker-custom-attributes": "X-Amzn-SageMaker-Custom-Attributes",
    "x-amzn-sagemaker-inference-id": "X-Amzn-SageMaker-Inference-Id",
}


class Variant:
    """One variant of a deployed endpoint, and its program."""

    def __init__(self, shared: Shared, endpoint: str, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.name: str = facts["VariantName"]
        group, stream = f"{logs.ENDPOINTS}/{endpoint}", f"{self.name}/i-{secrets.token_hex(8)}"
        self.log = f"log-group:{group}:log-stream:{stream}"
        folder = shared.trees / ENDPOINT.state / endpoint / f"{self.name}-{secrets.token_hex(4)}"
        what = f"production variant {self.name}"
        self.served = Served(shared, facts["_container"], folder, shared.logs.writer(group, stream), what=what)
        serverless = facts.get("ServerlessConfig")
        self.most = SERVERLESS_BODY if serverless else MAX_BODY
        self.places = threading.Semaphore(serverless["MaxConcurrency"]) if serverless else None

    def described(self) -> dict[str, Any]:
        """The variant as DescribeEndpoint answers it."""
        facts = self.facts
        found: dict[str, Any] = {
            "VariantName": self.name,
            "DeployedImages": [{"SpecifiedImage": facts["_container"].get("Image", "")}],
            "CurrentWeight": facts.get("InitialVariantWeight", 1.0),
            "DesiredWeight": facts.get("InitialVariantWeight", 1.0),
        }
        if "ServerlessConfig" in facts:
            return {**found, "CurrentServerlessConfig": facts["ServerlessConfig"]}
        num = facts.get("InitialInstanceCount", 1)
        return {**found, "CurrentInstanceCount": num, "DesiredInstanceCount": num}


class Endpoints:
    """Every endpoint."""

    def __init__(self, shared: Shared, models: Models) -> None:
        self._shared, self._models = shared, models
        self._variants: dict[str, list[Variant]] = {}
        self._coming: dict[str, list[Variant]] = {}
        self._threads: list[threading.Thread] = []

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on endpoints."""
        return {
            ("sagemaker", "CreateEndpoint"): self._create,
            ("sagemaker", "DescribeEndpoint"): lambda params: shown(self._get(params[ENDPOINT.name])),
            ("sagemaker", "ListEndpoints"): lambda params: list_page(self._shared.state, ENDPOINT, params),
            ("sagemaker", "UpdateEndpoint"): self._update,
            ("sagemaker", "DeleteEndpoint"): self._delete,
        }

    def resume(self) -> None:
        """Starts the programs of the endpoints that the last service had."""
        shutil.rmtree(self._shared.trees / ENDPOINT.state, ignore_errors=True)
        for record in self._shared.state.all(ENDPOINT.state):
            name, status = record[ENDPOINT.name], record[ENDPOINT.status]
            if status == "Deleting":
                self._shared.state.remove(ENDPOINT.state, name)
            elif status != "Failed":
                was = "Creating" if status == "Creating" else "SystemUpdating"
                self._shared.state.change(ENDPOINT.state, name, EndpointStatus=was)
                self._deploy(name, record["_variants"], record["EndpointConfigName"])

    def shut_down(self) -> None:
        """Ends every program; the next service starts them again."""
        groups = [*self._variants.values(), *self._coming.values()]
        self._variants, self._coming = {}, {}
        self._in_parallel([one.served for group in groups for one in group])

    # ------------------------------------------------------------------ operations

    def _get(self, name: str) -> Record:
        record = self._shared.state.get(ENDPOINT.state, name)
        if record is None:
            raise validation(f'Could not find endpoint "{self._shared.place.arn(ENDPOINT, name)}".')
        return record

    def _resolved(self, config_name: str, but: str) -> list[dict[str, Any]]:
        """The variants of a configuration with their models' containers, as they are now."""
        config = self._models.config(config_name)
        found = []
        for one in config["ProductionVariants"]:
            container = container_of(self._models.model(one["ModelName"]))
            found.append({**one, "_container": container})
            if "InstanceType" in one:
                used = sum(
                    other.get("InitialInstanceCount", 1)
                    for record in self._shared.state.all(ENDPOINT.state)
                    for other in record["_variants"]
                    if record[ENDPOINT.name] != but and other.get("InstanceType") == one["InstanceType"]
                )
                wanted = one.get("InitialInstanceCount", 1)
                self._shared.check_quota(one["InstanceType"], "endpoint", wanted, used)
        return found

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params[ENDPOINT.name]
        arn = self._shared.place.arn(ENDPOINT, name)
        variants = self._resolved(params[CONFIG.name], name)
        when = now()
        record = {
            ENDPOINT.name: name,
            ENDPOINT.arn: arn,
            CONFIG.name: params[CONFIG.name],
            ENDPOINT.status: "Creating",
            "CreationTime": when,
            "LastModifiedTime": when,
            "_variants": variants,
            "_tags": params.get("Tags", []),
        }
        self._shared.state.add(
            ENDPOINT.state, name, record, lambda: validation(f'Cannot create already existing endpoint "{arn}".')
        )
        self._deploy(name, variants, params[CONFIG.name])
        return {ENDPOINT.arn: arn}

    def _update(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params[ENDPOINT.name]
        record = self._get(name)
        variants = self._resolved(params[CONFIG.name], name)
        self._begin_change(name, record, "Updating")
        self._deploy(name, variants, params[CONFIG.name])
        return {ENDPOINT.arn: record[ENDPOINT.arn]}

    def _delete(self, params: dict[str, Any]) -> None:
        name = params[ENDPOINT.name]
        self._begin_change(name, self._get(name), "Deleting")
        variants = self._variants.pop(name, [])

        def work() -> None:
            self._in_parallel([one.served for one in variants])
            self._shared.state.remove(ENDPOINT.state, name)

        threading.Thread(target=work, daemon=True).start()

    def _begin_change(self, name: str, record: Record, status: str) -> None:
        changed = self._shared.state.change_if(
            ENDPOINT.state, name, lambda one: one[ENDPOINT.status] not in _CHANGING, EndpointStatus=status
        )
        if changed is None:
            raise validation(f'Cannot update in-progress endpoint "{record[ENDPOINT.arn]}".')

    # ------------------------------------------------------------------ programs

    def _deploy(self, name: str, facts: list[dict[str, Any]], config: str) -> None:
        """Starts the programs of a configuration, and puts them in the place of those there are once they answer."""
        coming = [Variant(self._shared, name, one) for one in facts]
        self._coming[name] = coming

        def work() -> None:
            for one in coming:
                one.served.start()
            ready = all(one.served.wait_ready(self._shared.settings.healthy_s + 60) for one in coming)
            if self._coming.pop(name, None) is None:  # the service ends
                return
            state = self._shared.state
            if ready:
                old, self._variants[name] = self._variants.get(name, []), coming
                state.change(
                    ENDPOINT.state,
                    name,
                    EndpointStatus="InService",
                    EndpointConfigName=config,
                    ProductionVariants=[one.described() for one in coming],
                    FailureReason=None,
                    _variants=facts,
                )
                self._in_parallel([one.served for one in old])
                return
            self._in_parallel([one.served for one in coming])
            reason = next((one.served.reason for one in coming if one.served.reason), "It did not start in time.")
            # What served before goes on serving.
            status = "InService" if name in self._variants else "Failed"
            state.change(ENDPOINT.state, name, EndpointStatus=status, FailureReason=reason[:1024])

        threading.Thread(target=work, name=f"deploy {name}", daemon=True).start()

    @staticmethod
    def _in_parallel(served: list[Served]) -> None:
        threads = [threading.Thread(target=one.stop) for one in served]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # ------------------------------------------------------------------ InvokeEndpoint

    def invoke(self, call: Call) -> Answer:
        """Answers one request with an endpoint's program.

        Raises:
            ServiceError: there is no such endpoint, it is not in service, or its program did not answer well.
        """
        record = self._shared.state.get(ENDPOINT.state, call.name)
        variants = self._variants.get(call.name)
        account = self._shared.place.account
        if record is None or (variants is None and record[ENDPOINT.status] != "SystemUpdating"):
            raise _runtime_error("ValidationError", f"Endpoint {call.name} of account {account} not found.")
        if variants is None:
            raise _runtime_error("ServiceUnavailable", f"Endpoint {call.name} starts again; try again soon.", 503)
        variant = _chosen(variants, call.headers.get("x-amzn-sagemaker-target-variant", ""))
        if len(call.body) > variant.most:
            raise ServiceError("413", f"HTTP content length exceeded {variant.most} bytes.", status=413)
        if variant.places is not None and not variant.places.acquire(blocking=False):
            raise _runtime_error(
                "ThrottlingException", "Rate exceeded: MaxConcurrency requests are being answered.", 429
            )
        try:
            replied = self._replied(variant, call)
        finally:
            if variant.places is not None:
                variant.places.release()
        if not 200 <= replied.status < 300:
            raise self._model_error(variant, replied.status, replied.body.decode("utf-8", "replace"), call.name)
        headers = {"x-amzn-invoked-production-variant": variant.name}
        for name in ("x-amzn-sagemaker-custom-attributes",):
            if name in replied.headers:
                headers[name] = replied.headers[name]
        return Answer(status=200, body=replied.body, content_type=replied.content_type, headers=headers)

    def _replied(self, variant: Variant, call: Call) -> Replied:
        limit = self._shared.settings.invoke_s
        headers = {name: call.headers[key] for key, name in _PASSED_ON.items() if key in call.headers}
        if not variant.served.wait_ready(limit):
            raise _runtime_error("ServiceUnavailable", f"The program of variant {variant.name} does not run.", 503)
        try:
            return variant.served.ask("POST", "/invocations", call.body, headers, limit)
        except TimeoutError as error:
            message = (
                "Your invocation timed out while waiting for a response from container primary. Review the latency "
                "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
            )
            raise self._model_error(variant, 0, message, call.name) from error
        except OSError as error:
            raise self._model_error(variant, 0, f"the program broke off its answer ({error})", call.name) from error

    def _model_error(self, variant: Variant, status: int, message: str, endpoint: str) -> ServiceError:
        place = self._shared.place
        kind = "client" if 400 <= status < 500 else "server"
        return ServiceError(
            "ModelError",
            f'Received {kind} error ({status}) from primary with message "{message[:1500]}". See the log group '
            f"{logs.ENDPOINTS}/{endpoint} in account {place.account} for more information.",
            status=424,
            fields={
                "OriginalStatusCode": status,
                "OriginalMessage": message[:1500],
                "LogStreamArn": f"arn:aws:logs:{place.region}:{place.account}:{variant.log}",
            },
        )


def _chosen(variants: list[Variant], wanted: str) -> Variant:
    if wanted:
        for one in variants:
            if one.name == wanted:
                return one
        raise _runtime_error("ValidationError", f"Variant {wanted} not found.")
    weights = [one.facts.get("InitialVariantWeight", 1.0) for one in variants]
    return random.choices(variants, weights if any(weights) else None)[0]


def _runtime_error(code: str, message: str, status: int = 400) -> ServiceError:
    return ServiceError(code, message, status=status)
