from dataclasses import replace

import pytest

from bintally.cloud.follow import Clock
from bintally.cloud.inventory import SORTS, Thing
from bintally.cloud.options import CloudSettings
from bintally.cloud.removal import choose, remove_all
from bintally.cloud.service import Service
from bintally.errors import CloudError
from tests.cloud.stand_in import Refusal, StandIn

SORT = {sort.name: sort for sort in SORTS}
MISSING = Refusal("ValidationException", "Could not find it")


def thing(sort: str, name: str, status: str = "") -> Thing:
    return Thing(sort=SORT[sort], name=name, arn="arn", status=status)


RUNNING = thing("training", "running", "InProgress")
DONE = thing("training", "done", "Completed")
ENDPOINT = thing("endpoint", "e", "InService")
CONFIG, MODEL = thing("configuration", "c"), thing("model", "m")
ALL = [RUNNING, DONE, ENDPOINT, CONFIG, MODEL]


def described(status: str) -> dict[str, object]:
    return {"EndpointName": "e", "EndpointStatus": status, "ProductionVariants": [{"VariantName": "AllTraffic"}]}


def test_records_stay_unless_asked_for() -> None:
    assert choose(ALL, []) == [RUNNING, ENDPOINT, CONFIG, MODEL]
    assert choose(ALL, [], records=True) == ALL
    assert choose([thing("batch", "b", "Completed")], [], records=True) == []
    assert choose([thing("batch", "b", "InProgress")], []) != []
    assert choose(ALL, ["m", "e"]) == [ENDPOINT, MODEL]
    with pytest.raises(CloudError, match="nothing that bintally made is called 'other'"):
        choose(ALL, ["m", "other"])


def test_everything_in_order(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    stand_in.answers["DescribeTrainingJob"] = [{"TrainingJobName": "running", "TrainingJobStatus": "InProgress"}]
    stand_in.answers["DescribeEndpoint"] = [described("InService"), described("Deleting"), MISSING]
    stand_in.answers["DescribeScalableTargets"] = [{"ScalableTargets": []}]
    heard: list[str] = []
    removed = remove_all(service, [RUNNING, ENDPOINT, CONFIG, MODEL], settings, heard.append, clock=clock)
    assert [one.name for one in removed.done] == ["running", "e", "c", "m"]
    assert removed.left == ()
    deeds = [name for name in stand_in.names() if not name.startswith("Describe")]
    assert deeds == ["StopTrainingJob", "DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"]
    assert heard == [
        "training running: stopping",
        "endpoint e: removed",
        "configuration c: removed",
        "model m: removed",
    ]


def test_the_record_of_a_job(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    assert remove_all(service, [DONE], settings, lambda _: None, clock=clock).done == (DONE,)
    assert stand_in.of("DeleteTrainingJob") == [{"TrainingJobName": "done"}]


def test_scaling_goes_with_its_endpoint(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["DescribeEndpoint"] = [described("InService"), MISSING]
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/e/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "MinCapacity": 1,
        "MaxCapacity": 2,
        "RoleARN": "r",
        "CreationTime": 0,
    }
    stand_in.answers["DescribeScalableTargets"] = [{"ScalableTargets": [target]}]
    remove_all(service, [ENDPOINT], settings, lambda _: None, clock=clock)
    assert stand_in.of("DeregisterScalableTarget")[0]["ResourceId"] == "endpoint/e/variant/AllTraffic"
    # Who may not look at the scaling can remove the endpoint all the same, and is told.
    stand_in.answers["DescribeEndpoint"] = [described("InService"), MISSING]
    stand_in.answers["DescribeScalableTargets"] = [Refusal("AccessDeniedException", "no")]
    heard: list[str] = []
    assert remove_all(service, [ENDPOINT], settings, heard.append, clock=clock).done == (ENDPOINT,)
    assert "the scaling of e was not looked at" in heard[0]


def test_an_endpoint_that_is_being_made_is_waited_for(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    creating = thing("endpoint", "e", "Creating")
    stand_in.answers["DescribeEndpoint"] = [
        described("Creating"),
        described("Creating"),
        described("InService"),
        MISSING,
    ]
    heard: list[str] = []
    assert remove_all(service, [creating], settings, heard.append, clock=clock).done == (creating,)
    assert "can be removed only after that: waiting" in heard[0]
    assert len(stand_in.of("DeleteEndpoint")) == 1


def test_what_is_gone_is_no_failure(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers |= {"DescribeEndpoint": [MISSING], "DeleteModel": [MISSING], "DescribeTrainingJob": [MISSING]}
    heard: list[str] = []
    removed = remove_all(service, [RUNNING, ENDPOINT, MODEL], settings, heard.append, clock=clock)
    assert removed.left == ()
    assert "model m: gone already" in heard


def test_what_fails_is_left_and_told_and_stops_nothing(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["DeleteEndpointConfig"] = [Refusal("AccessDeniedException", "no")]
    removed = remove_all(service, [CONFIG, MODEL], settings, lambda _: None, clock=clock)
    assert removed.done == (MODEL,)
    assert removed.left[0][0] == CONFIG
    assert "DeleteEndpointConfig" in removed.left[0][1]


def test_an_endpoint_that_will_not_go(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["DescribeEndpoint"] = [described("Deleting")]
    removed = remove_all(service, [ENDPOINT], replace(settings, patience_s=5), lambda _: None, clock=clock)
    assert "still being removed after 5 s" in removed.left[0][1]
    assert not stand_in.of("DeleteEndpoint")
