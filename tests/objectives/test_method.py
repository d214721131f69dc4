import pytest

from mdtdist.objectives import RELEASED, Cost, MDTConfig, MethodConfig, Objective, TrajectoryConfig, mdt_loss


def test_forwards_count_a_gradient_pass_three_times_and_a_guided_teacher_twice():
    # The sums of table 12 in the literature's unit: velocity matching 6, with distillation 13, a DMD generator step 6.
    assert Cost(student_grad=1, student=1, teacher=1).forwards() == 6
    assert Cost(student_grad=2, student=3, teacher=2).forwards() == 13
    assert Cost(student_grad=1, teacher=1, fake=1).forwards() == 6
    assert Cost(student_grad=1, student=1, teacher=1).forwards(is_guided=False) == 5
    assert Cost(teacher_grad=1, fake_grad=2).forwards() == 9
    assert Cost().forwards() == 0


def test_costs_of_marginal_data_transport():
    assert MDTConfig().cost.forwards() == 13
    assert MDTConfig(lambda_vd=0.0).cost.forwards() == 6


def test_variant_paper_has_the_defaults_and_others_go_by_name():
    objective = Objective(config=MDTConfig, losses={"student": mdt_loss}, variants={"released": RELEASED})
    assert objective.variant("paper") == MDTConfig()
    assert objective.variant("released") is RELEASED


def test_unknown_variant_is_refused_with_the_names_there_are():
    objective = Objective(config=MDTConfig, losses={"student": mdt_loss}, variants={"released": RELEASED})
    with pytest.raises(ValueError, match="variant is 'ours'; expected one of paper, released"):
        objective.variant("ours")


def test_configs_state_needs_and_cost():
    assert isinstance(MDTConfig(), MethodConfig) and isinstance(TrajectoryConfig(), MethodConfig)
    assert not isinstance(Cost(), MethodConfig)
