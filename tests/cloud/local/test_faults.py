import pytest

from bintally.cloud.local.faults import Faults
from bintally.cloud.local.wire import ServiceError


def test_the_first_calls_are_refused() -> None:
    faults = Faults(["CreateTrainingJob=ThrottlingException:2", "CreateModel=AccessDeniedException"])
    for _ in range(2):
        with pytest.raises(ServiceError, match="Rate exceeded") as caught:
            faults.meet("CreateTrainingJob")
        assert caught.value.code == "ThrottlingException"
    faults.meet("CreateTrainingJob")
    with pytest.raises(ServiceError, match="is not authorized to perform: sagemaker:CreateModel"):
        faults.meet("CreateModel")
    faults.meet("DescribeModel")
    assert Faults(["TrainingJob=CapacityError"]).take("TrainingJob") == "CapacityError"
    with pytest.raises(ServiceError, match="Odd, as ordered"):
        Faults(["X=Odd"]).meet("X")
