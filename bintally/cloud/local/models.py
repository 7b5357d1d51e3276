"""Models and endpoint configurations: what is to be served, by how much of what."""

from typing import Any

from bintally.cloud.local.bucket import TransferError
from bintally.cloud.local.names import CONFIG, MODEL, Kind, list_page
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import Record, now, shown
from bintally.cloud.local.wire import ServiceError, validation


class Models:
    """Every model and endpoint configuration."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on them."""
        state = self._shared.state
        return {
            ("sagemaker", "CreateModel"): self._create_model,
            ("sagemaker", "DescribeModel"): lambda params: shown(self.model(params[MODEL.name])),
            ("sagemaker", "ListModels"): lambda params: list_page(state, MODEL, params),
            ("sagemaker", "DeleteModel"): lambda params: self._delete(MODEL, params),
            ("sagemaker", "CreateEndpointConfig"): self._create_config,
            ("sagemaker", "DescribeEndpointConfig"): lambda params: shown(self.config(params[CONFIG.name])),
            ("sagemaker", "ListEndpointConfigs"): lambda params: list_page(state, CONFIG, params),
            ("sagemaker", "DeleteEndpointConfig"): lambda params: self._delete(CONFIG, params),
        }

    def model(self, name: str) -> Record:
        """A model. Raises ServiceError when there is none."""
        return self._get(MODEL, name)

    def config(self, name: str) -> Record:
        """An endpoint configuration. Raises ServiceError when there is none."""
        return self._get(CONFIG, name)

    def _get(self, kind: Kind, name: str) -> Record:
        record = self._shared.state.get(kind.state, name)
        if record is None:
            raise validation(f'Could not find {_WORDS[kind]} "{self._shared.place.arn(kind, name)}".')
        return record

    def _delete(self, kind: Kind, params: dict[str, Any]) -> None:
        self._get(kind, params[kind.name])
        self._shared.state.remove(kind.state, params[kind.name])

    def _add(self, kind: Kind, params: dict[str, Any], record: Record) -> dict[str, Any]:
        name = params[kind.name]
        if not name:
            raise validation(f"{kind.name} must not be empty.")
        arn = self._shared.place.arn(kind, name)

        def taken() -> ServiceError:
            return validation(f'Cannot create already existing {_WORDS[kind]} "{arn}".')

        record = {kind.arn: arn, "CreationTime": now(), **record, "_tags": params.get("Tags", [])}
        self._shared.state.add(kind.state, name, record, taken)
        return {kind.arn: arn}

    def _create_model(self, params: dict[str, Any]) -> dict[str, Any]:
        container = container_of(params)
        if "Image" not in container:
            raise validation("A container needs an Image: there are no model packages on this machine.")
        uri = model_data_of(container)
        try:
            found = self._shared.bucket.list(uri)
        except TransferError as error:
            raise validation(f"Could not access model data at {uri}: {error}") from error
        if not found:
            raise validation(f"Could not find model data at {uri}.")
        record = {key: value for key, value in params.items() if key != "Tags"}
        return self._add(MODEL, params, {"EnableNetworkIsolation": False, **record})

    def _create_config(self, params: dict[str, Any]) -> dict[str, Any]:
        names = [one["VariantName"] for one in params["ProductionVariants"]]
        if len(set(names)) < len(names):
            raise validation("Variant names must be unique in an endpoint configuration.")
        for one in params["ProductionVariants"]:
            if "ModelName" not in one:
                raise validation("A variant needs a ModelName: there are no inference components on this machine.")
            self.model(one["ModelName"])
            if ("ServerlessConfig" in one) == ("InstanceType" in one):
                raise validation(
                    f"Variant {one['VariantName']} needs either a ServerlessConfig, or an InstanceType with an "
                    "InitialInstanceCount."
                )
        if "AsyncInferenceConfig" in params:
            raise validation("The service on this machine has no asynchronous endpoints.")
        record = {key: value for key, value in params.items() if key != "Tags"}
        record["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **one} for one in params["ProductionVariants"]]
        return self._add(CONFIG, params, record)


def container_of(model: Record) -> dict[str, Any]:
    """The one container of a model. Raises ServiceError when it has none or several."""
    containers = model.get("Containers") or []
    if "PrimaryContainer" in model:
        containers = [model["PrimaryContainer"], *containers]
    if len(containers) != 1:
        raise validation("The service on this machine serves models of one container: give a PrimaryContainer.")
    container: dict[str, Any] = containers[0]
    return container


def model_data_of(container: dict[str, Any]) -> str:
    """Where a container's model lies: a .tar.gz, or a folder when it ends in "/"."""
    if "ModelDataUrl" in container:
        return str(container["ModelDataUrl"])
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source is None:
        raise validation("A container needs a ModelDataUrl or a ModelDataSource.")
    uri = str(source["S3Uri"])
    folder = source["CompressionType"] == "None" and source["S3DataType"] == "S3Prefix"
    return f"{uri.rstrip('/')}/" if folder else uri


_WORDS = {MODEL: "model", CONFIG: "endpoint configuration"}
