"""A service under test, run in this process, with boto3 clients that talk to it over its port."""

import io
import itertools
import json
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from botocore.config import Config

from bintally.cloud.local.checks import service_model
from bintally.cloud.local.options import LocalSettings
from bintally.cloud.local.server import bind, server_of
from bintally.cloud.local.service import Service
from bintally.cloud.local.shared import Programs
from bintally.cloud.local.wire import Answer, Call

HERE = Path(__file__).parent
PROGRAMS = Programs(
    train=(sys.executable, "-S", str(HERE / "train.py")), serve=(sys.executable, "-S", str(HERE / "serve.py"))
)
QUICK: dict[str, Any] = {"port": 0, "s3_port": 0, "sync_s": 0.2, "training_stop_s": 20.0, "parallel_jobs": 4}
ROLE = "arn:aws:iam::000000000000:role/bintally"
METRICS = [{"Name": "validation:accuracy", "Regex": r"validation:accuracy=([-+0-9.eE]+);"}]
DONE = {"Completed", "Failed", "Stopped"}

_names = itertools.count()


class Cloud:
    """The service on a folder, from start to stop."""

    def __init__(self, root: Path, programs: Programs = PROGRAMS, **settings: Any) -> None:
        self.root = root
        self.service = Service(root, LocalSettings(**(QUICK | settings)), programs)
        self.stopped = False
        try:
            self.service.start()
        except BaseException:
            self.service.stop()
            raise
        self.wrong: list[str] = []
        self._hold_to_the_model()
        sock, ready = bind(self.service.settings.port), threading.Event()
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        self.server: uvicorn.Server = server_of(self.service, ready.set)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [sock]}, daemon=True)
        self.thread.start()
        if not ready.wait(120):
            self.stop()
            raise AssertionError("the server does not listen")
        self.sagemaker, self.runtime = self.client("sagemaker"), self.client("sagemaker-runtime")
        self.logs, self.s3 = self.client("logs"), self.client("s3")

    def client(self, name: str, **more: Any) -> Any:
        access = self.service.access
        return boto3.session.Session().client(
            name,
            endpoint_url=access.endpoint if name == "s3" else self.url,
            region_name="us-east-1",
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            config=Config(
                **{
                    "retries": {"total_max_attempts": 1},
                    "read_timeout": 120,
                    "request_checksum_calculation": "when_required",
                    "response_checksum_validation": "when_required",
                }
                | more
            ),
        )

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self.server.should_exit = True
        self.thread.join(60)
        self.service.stop()
        assert not self.wrong, self.wrong

    # what is answered must be what botocore's model of the service says

    def _hold_to_the_model(self) -> None:
        inner = self.service.carry_out

        def carry_out(call: Call) -> Any:
            value = inner(call)
            if call.service != "sts" and not isinstance(value, Answer):
                shape = service_model(call.service).operation_model(call.operation).output_shape
                self.wrong += (
                    unfit(shape, value, call.operation) if shape else ([] if not value else [call.operation])
                )
            return value

        self.service.carry_out = carry_out  # type: ignore[method-assign]

    # what tests need again and again

    def put(self, key: str, body: bytes | str = b"x", bucket: str = "bintally") -> str:
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        return f"s3://{bucket}/{key}"

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket="bintally", Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", [])]

    def archive(self, uri: str) -> dict[str, bytes]:
        body = self.s3.get_object(Bucket="bintally", Key=uri.removeprefix("s3://bintally/"))["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]

    def train(self, name: str = "", *, hosts: int = 1, **more: Any) -> str:
        name = name or unique("job")
        request = training(name, hosts=hosts) | more
        self.sagemaker.create_training_job(**request)
        return name

    def trained(self, name: str, until: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        test = until or (lambda job: job["TrainingJobStatus"] in DONE)
        return wait_for(lambda: self.sagemaker.describe_training_job(TrainingJobName=name), test)

    def lines(self, group: str, prefix: str) -> list[str]:
        streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)["logStreams"]
        return [
            event["message"]
            for one in streams
            for event in self.logs.get_log_events(
                logGroupName=group, logStreamName=one["logStreamName"], startFromHead=True
            )["events"]
        ]

    def told(self, job: str) -> list[str]:
        """What a training has told so far."""
        try:
            return self.lines("/aws/sagemaker/TrainingJobs", f"{job}/")
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    def model(self, name: str = "", **says: Any) -> str:
        """A model whose program is the stand-in."""
        name = name or unique("model")
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            body = json.dumps({"name": name, **says}).encode()
            info = tarfile.TarInfo("model.json")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        uri = self.put(f"models/{name}/model.tar.gz", out.getvalue())
        container = {"Image": "image:1", "ModelDataUrl": uri, "Environment": {"FLAVOUR": "plain"}}
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return name

    def config(self, *models: str, serverless: bool = False) -> str:
        name = unique("config")
        kind: dict[str, Any] = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        if serverless:
            kind = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
        variants = [{"VariantName": f"v{place}", "ModelName": one, **kind} for place, one in enumerate(models)]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        return name

    def deploy(self, config: str) -> str:
        name = unique("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        return name

    def settled(self, endpoint: str) -> dict[str, Any]:
        return wait_for(
            lambda: self.sagemaker.describe_endpoint(EndpointName=endpoint),
            lambda one: one["EndpointStatus"] in {"InService", "Failed"},
        )

    def ask(self, endpoint: str, body: bytes = b"photo", **more: Any) -> Any:
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=body, **({"ContentType": "image/jpeg"} | more)
        )
        return json.loads(answer["Body"].read())


def training(name: str, *, hosts: int = 1) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": "image:1",
            "TrainingInputMode": "File",
            "MetricDefinitions": METRICS,
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://bintally/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }


def channel(name: str, uri: str, **source: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}},
    }


def unique(what: str) -> str:
    return f"{what}-{next(_names)}"


def wait_for(look: Callable[[], Any], test: Callable[[Any], bool], seconds: float = 300) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if test(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s: {found}")


def unfit(shape: Any, value: Any, path: str) -> list[str]:
    """Where an answer is not what its shape says."""
    kind = shape.type_name
    if kind == "structure":
        unknown = [f"{path}.{name} is unknown" for name in value if name not in shape.members]
        return unknown + [
            one
            for name, of in shape.members.items()
            if name in value
            for one in unfit(of, value[name], f"{path}.{name}")
        ]
    if kind == "list":
        return [found for one in value for found in unfit(shape.member, one, path)]
    if kind == "map":
        return [found for key, one in value.items() for found in unfit(shape.value, one, f"{path}.{key}")]
    kinds: dict[str, Any] = {"string": str, "integer": int, "long": int, "boolean": bool}
    wanted = kinds.get(kind, int | float)
    right = isinstance(value, wanted) and (kind != "string" or not shape.enum or value in shape.enum)
    return [] if right else [f"{path} = {value!r} is no {shape.name}"]
