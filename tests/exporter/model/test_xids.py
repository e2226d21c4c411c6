import pytest

from exporter.model import xids


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (8, "restart_app"),
        (31, "restart_app"),
        (39, "restart_app"),
        (41, "restart_app"),
        (94, "restart_app"),
        (105, "restart_app"),
        (139, "restart_app"),
        (43, "ignore"),
        (63, "ignore"),
        (161, "ignore"),
        (46, "reset_gpu"),
        (95, "reset_gpu"),
        (109, "reset_gpu"),
        (158, "reset_gpu"),
        (79, "restart_node"),
        (151, "restart_node"),
        (48, "check_ecc"),
        (74, "check_nvlink"),
        (144, "check_nvlink"),
        (150, "check_nvlink"),
        (45, "follow_up"),
        (54, "check_hardware"),
        (78, "update_driver"),
        (159, "check_uvm"),
        (142, "contact_support"),
        (154, "recovery_action"),
        (9, "unknown"),
        (0, "unknown"),
        (10_000, "unknown"),
    ],
)
def test_action(code: int, action: str) -> None:
    assert xids.action(code) == action


def test_a_code_has_one_action() -> None:
    listed = sum(
        len(group) if isinstance(group, range) else 1
        for groups in xids._CODES.values()
        for group in groups
    )
    assert listed == len(xids.ACTIONS)
