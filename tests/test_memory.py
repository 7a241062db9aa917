"""MOST-Net's memory, equation by equation, on cases worked by hand and beside slow transcriptions."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from silverpoint.losses.memory_refinement import memory_refinement
from silverpoint.nets.memory import (
    MemoryDictionary,
    attention_entropy,
    perplexity,
    rows,
    similarity,
    slot_counts,
)


def memory_of(keys, values, **settings) -> MemoryDictionary:
    """A memory in training mode that holds these slots."""
    memory = MemoryDictionary(len(keys), len(keys[0]), **settings)
    memory.keys.copy_(torch.tensor(keys))
    memory.values.copy_(torch.tensor(values))
    return memory.train()


# Three slots in the plane: keys east, north and west; values of another length and direction.
KEYS = [[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]]
VALUES = [[0.0, 4.0], [1.0, 0.0], [0.0, -1.0]]


def test_a_map_is_rows_of_places_and_back():  # Eqs. 2, 3, 9
    features = torch.arange(24.0).view(2, 3, 2, 2)
    assert torch.equal(rows(features)[5], features[1, :, 0, 1])
    memory = memory_of([[1.0, 0.0, 0.0]], [[7.0, 8.0, 9.0]])
    read = memory(features)
    assert read.shape == features.shape
    assert torch.equal(read[1, :, 1, 0], torch.tensor([7.0, 8.0, 9.0]))


def test_likeness_is_the_cosine():  # Eq. 4
    cosines = similarity(torch.tensor([[3.0, 4.0], [0.0, -2.0]]), torch.tensor(KEYS))
    torch.testing.assert_close(cosines, torch.tensor([[0.6, 0.8, -0.6], [0.0, -1.0, 0.0]]))


def test_the_longest_key_is_not_the_most_alike():  # Eqs. 4, 5: by direction, never by length
    assert int(similarity(torch.tensor([[1.0, 1.2]]), torch.tensor([[9.0, 0.0], [0.0, 0.1]])).argmax()) == 1


def test_the_chosen_slots_move_so_far_toward_the_mean_of_what_chose_them():  # Eq. 6
    memory = memory_of(KEYS, VALUES, decay=0.75)
    photo = torch.tensor([[4.0, 1.0], [8.0, -1.0], [1.0, 6.0]])  # east, east, north; none west
    sketch = torch.tensor([[-1.0, 5.0], [0.0, 3.0], [-1.0, 1.0]])  # all nearest to the first value
    memory.update(
        photo, sketch, similarity(photo, memory.keys).argmax(1), similarity(sketch, memory.values).argmax(1)
    )
    # east: 3/4 (2, 0) + 1/4 mean((4, 1), (8, -1)); north: 3/4 (0, 1) + 1/4 (1, 6); west stays
    torch.testing.assert_close(memory.keys, torch.tensor([[3.0, 0.0], [0.25, 2.25], [-3.0, 0.0]]))
    # 3/4 (0, 4) + 1/4 (-2/3, 3)
    torch.testing.assert_close(memory.values, torch.tensor([[-1 / 6, 3.75], [1.0, 0.0], [0.0, -1.0]]))
    assert memory.idle.tolist() == [0, 0, 1]


def update_by_loops(slots, features, choice, decay):
    moved = slots.clone()
    for k in range(len(slots)):
        chose = [f for f, c in zip(features, choice.tolist(), strict=True) if c == k]
        if chose:
            moved[k] = decay * slots[k] + (1 - decay) * sum(chose) / len(chose)
    return moved


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**31))
def test_updating_is_the_equation_for_any_sizes(count, slots, channels, decay, seed):
    torch.manual_seed(seed)
    memory = MemoryDictionary(slots, channels, decay).double()
    photo, sketch = torch.randn(2, count, channels, dtype=torch.double)
    choices = torch.randint(slots, (2, count))
    expected = [
        update_by_loops(s.clone(), f, c, decay)
        for s, f, c in zip((memory.keys, memory.values), (photo, sketch), choices, strict=True)
    ]
    memory.update(photo, sketch, *choices)
    torch.testing.assert_close([memory.keys, memory.values], expected)


def read_by_loops(memory, features):
    result = []
    for f in features:
        weights = [
            math.exp(float(f @ k / (f.norm() * k.norm())) / memory.temperature) for k in memory.keys
        ]  # Eqs. 4, 7
        result.append(sum(w / sum(weights) * v for w, v in zip(weights, memory.values, strict=True)))  # Eq. 8
    return torch.stack(result)


def test_reading_by_hand():  # Eqs. 7, 8
    memory = memory_of(KEYS, VALUES)
    e = math.e
    expected = (e * torch.tensor(VALUES[0]) + torch.tensor(VALUES[1]) + torch.tensor(VALUES[2]) / e) / (
        e + 1 + 1 / e
    )
    torch.testing.assert_close(memory.read(torch.tensor([[5.0, 0.0]])), expected[None])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(2, 6), st.sampled_from([1.0, 0.1]), st.integers(0, 2**31))
def test_reading_is_the_equations_for_any_sizes(slots, channels, temperature, seed):
    torch.manual_seed(seed)
    memory = MemoryDictionary(slots, channels, temperature=temperature).double()
    features = torch.randn(5, channels, dtype=torch.double)
    torch.testing.assert_close(memory.read(features), read_by_loops(memory, features))


def test_a_sharper_reading_takes_the_most_alike_value():
    memory = memory_of(KEYS, VALUES, temperature=0.01)
    torch.testing.assert_close(memory.read(torch.tensor([[0.1, 5.0]])), torch.tensor([VALUES[1]]))


def test_low_precision_reads_with_the_same_weights():
    """The values are the unit vectors, so that what is read is the attention itself."""
    torch.manual_seed(0)
    memory = MemoryDictionary(256, 256, temperature=0.01)
    memory.values.copy_(torch.eye(256))
    features = torch.randn(2, 256, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = memory(features).float()
    torch.testing.assert_close(found, memory(features), rtol=0.01, atol=1e-6)


def test_in_eval_nothing_moves():
    memory = MemoryDictionary(4, 3, restart_after=1).eval()
    before = {name: b.clone() for name, b in memory.named_buffers()}
    features, choice = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    memory.update(features, features, choice, choice)
    memory.read(features)
    assert all(torch.equal(b, before[name]) for name, b in memory.named_buffers())


def test_no_gradient_reaches_the_slots_and_one_reaches_the_query():
    memory = MemoryDictionary(4, 3)
    assert not list(memory.parameters())
    features = torch.randn(6, 3, requires_grad=True)
    choice = torch.randint(4, (6,))
    memory.update(features, features, choice, choice)
    assert not any(b.requires_grad for b in memory.buffers())
    memory.read(features).square().sum().backward()
    assert float(features.grad.abs().sum()) > 0
    assert all(b.grad is None for b in memory.buffers())


def test_an_update_between_reading_and_its_gradient_leaves_the_gradient_right():
    """As when a batch comes in parts: the memory moves for the second before the first is descended."""
    torch.manual_seed(0)
    memory = MemoryDictionary(4, 3, decay=0.5).double()
    features, choice = torch.randn(6, 3, dtype=torch.double, requires_grad=True), torch.zeros(6, dtype=int)
    expected = torch.autograd.grad(memory.read(features).square().sum(), features)
    read = memory.read(features)
    memory.update(features, features, choice, choice)
    torch.testing.assert_close(torch.autograd.grad(read.square().sum(), features), expected)


def test_ranks_that_each_see_a_part_move_the_memory_as_one_that_sees_all():
    torch.manual_seed(0)
    photo, sketch = torch.randn(2, 10, 3)
    choices = torch.randint(4, (2, 10))
    alone = MemoryDictionary(6, 3, decay=0.5).train()  # slots 4 and 5 are chosen nowhere
    start = {k: v.clone() for k, v in alone.state_dict().items()}
    alone.update(photo, sketch, *choices)

    parts = [(slice(0, 3)), slice(3, 10)]  # of unlike sizes: the mean is over features, not over ranks
    sent: list[list[torch.Tensor]] = []
    for part in parts:  # what each rank sends does not depend on what comes back
        rank = MemoryDictionary(6, 3, decay=0.5).train()
        rank.load_state_dict(start)
        mine: list[torch.Tensor] = []
        rank.update(photo[part], sketch[part], *choices[:, part], reduce=lambda t, m=mine: m.append(t) or t)
        sent.append(mine)
    means = [torch.stack(tensors).mean(0) for tensors in zip(*sent, strict=True)]
    for part in parts:
        rank = MemoryDictionary(6, 3, decay=0.5).train()
        rank.load_state_dict(start)
        answers = iter(means)
        rank.update(photo[part], sketch[part], *choices[:, part], reduce=lambda t, a=answers: next(a))
        torch.testing.assert_close(dict(rank.state_dict()), dict(alone.state_dict()))


PROCESS = """
import sys, torch, torch.distributed as dist
from silverpoint.nets.memory import MemoryDictionary, similarity
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
memory = MemoryDictionary(32, 4, decay=0.5, restart_after=2)
plain = MemoryDictionary(32, 4, decay=0.5)
plain.load_state_dict(memory.state_dict())
torch.manual_seed(1 + rank)  # unlike data, and unlike noise
def reduce(tensor):
    dist.all_reduce(tensor)
    return tensor / 2
for step in range(6):
    photo, sketch = torch.randn(2, 25, 4)
    for each in (memory, plain):
        each.update(photo, sketch, similarity(photo, each.keys).argmax(1),
                    similarity(sketch, each.values).argmax(1), reduce)
    assert torch.equal(memory.keys, plain.keys) == (step < 1), step  # restarted from the second on
torch.save(memory.state_dict(), out)
dist.barrier()  # neither leaves while the other still reads from it
dist.destroy_process_group()  # joins gloo's threads: one that outlives the interpreter aborts the process
"""


def test_two_processes_hold_one_memory(tmp_path):
    """Over gloo, with restarts, bit for bit."""
    commands = [
        [sys.executable, "-c", PROCESS, str(rank), str(tmp_path / "store"), str(tmp_path / f"{rank}.pt")]
        for rank in (0, 1)
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(c, env=environment, stderr=subprocess.PIPE) for c in commands]
    for process in processes:
        _, message = process.communicate(timeout=300)
        assert process.returncode == 0, message.decode()
    first, second = (torch.load(Path(c[-1]), weights_only=True) for c in commands)
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(0)
    assert not torch.equal(first["keys"], MemoryDictionary(32, 4).keys)


# ---- dead slots --------------------------------------------------------------------------------------------------


def test_a_dead_slot_takes_half_of_what_chose_the_busiest_key_as_key_and_value():
    torch.manual_seed(0)
    memory = memory_of(KEYS, VALUES, decay=1.0, restart_after=2)
    photo = torch.tensor([[1.0, 0.3], [1.0, -0.1], [1.0, 0.1], [1.0, -0.3], [0.0, 1.0]])
    sketch = torch.tensor([[8.0, 1.0], [4.0, 2.0], [6.0, 3.0], [2.0, 4.0], [0.0, 0.0]])
    key_choice, value_choice = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 1, 2, 0, 1])
    for step in range(2):
        assert memory.idle.tolist() == [0, 0, step]  # chosen as a value, never as a key
        memory.update(photo, sketch, key_choice, value_choice)
    assert memory.idle.tolist() == [0, 0, 0]
    # Any line through the mean (1, 0) of what chose the first key has the first and third feature on one side.
    upper = memory.keys[2, 1] > 0
    expected = ([1.0, 0.2], [7.0, 2.0]) if upper else ([1.0, -0.2], [3.0, 3.0])
    torch.testing.assert_close((memory.keys[2], memory.values[2]), tuple(map(torch.tensor, expected)))
    torch.testing.assert_close(
        (memory.keys[:2], memory.values[:2]), (torch.tensor(KEYS[:2]), torch.tensor(VALUES[:2]))
    )


def test_after_restarts_the_features_of_a_place_still_choose_one_slot():
    torch.manual_seed(0)
    centres, dead = torch.randn(8, 16) * 4, torch.randn(24, 16)
    turn, _ = torch.linalg.qr(torch.randn(16, 16))
    photo = (centres[:, None] + torch.randn(8, 64, 16)).flatten(0, 1)
    sketch = photo @ turn + 0.1 * torch.randn(512, 16)
    memory = memory_of(
        torch.cat([centres, dead]).tolist(), (torch.cat([centres, dead]) @ turn).tolist(), restart_after=3
    )
    agreement, used = [], []
    for _ in range(12):
        key_choice = similarity(photo, memory.keys).argmax(1)
        value_choice = similarity(sketch, memory.values).argmax(1)
        agreement.append(float((key_choice == value_choice).float().mean()))
        used.append(len(key_choice.unique()))
        memory.update(photo, sketch, key_choice, value_choice)
    assert used == [8, 8, 8, 16, *[32] * 8]
    assert min(agreement) > 0.9  # of two random cuts, about a third after the first


def test_a_busy_slot_is_split_once_at_a_time():
    torch.manual_seed(0)
    memory = memory_of([[1.0, 0.0], [0.0, 1.0], *[[-1.0, -1.0]] * 6], [[1.0, 0.0]] * 8, restart_after=1)
    photo = torch.cat([torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 5.0]])]).repeat(32, 1) + torch.rand(
        64, 2
    )
    used = []
    for _ in range(4):
        choice = similarity(photo, memory.keys).argmax(1)
        used.append(len(choice.unique()))
        memory.update(photo, photo, choice, choice)
    assert used == [2, 4, 8, 8]


def test_a_slot_whose_features_are_all_alike_is_not_split():  # a white margin's, say, be it the busiest
    torch.manual_seed(0)
    memory = memory_of(KEYS, VALUES, decay=0.5, restart_after=1)
    alike = torch.full((7, 2), 0.1)
    photo = torch.cat([alike, torch.tensor([[-1.0, 0.0], [-1.0, 0.5]])])
    memory.update(photo, photo, torch.tensor([0] * 7 + [2] * 2), torch.zeros(9, dtype=int))
    assert memory.idle.tolist() == [0, 0, 0]
    assert float(memory.keys[1, 0]) == -1
    memory = memory_of(KEYS, VALUES, decay=0.5, restart_after=1)
    memory.update(alike, alike, torch.zeros(7, dtype=int), torch.zeros(7, dtype=int))
    assert memory.idle.tolist() == [0, 1, 1]
    assert torch.equal(memory.keys[1:], torch.tensor(KEYS[1:]))


def test_without_restarts_a_slot_that_nothing_chooses_stays_what_it_was():  # the paper
    torch.manual_seed(0)
    memory = MemoryDictionary(3, 2)
    before = memory.keys.clone()
    for _ in range(50):
        features = torch.rand(4, 2)
        memory.update(features, features, torch.zeros(4, dtype=int), torch.zeros(4, dtype=int))
    assert torch.equal(memory.keys[1:], before[1:])
    assert memory.idle.tolist() == [0, 50, 50]


# ---- the memory refinement loss -----------------------------------------------------------------------------------


def test_the_refinement_counts_the_places_that_choose_unlike_slots():  # Eqs. 14, 15, by hand
    keys = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.5, 0.4, 0.3]])
    values = torch.tensor([[0.8, 0.2, 0.1], [0.3, 0.2, 0.1], [0.0, 0.1, 0.5], [0.0, 0.0, 0.1]])
    # choices 0, 1, 2, 0 and 0, 0, 2, 2: the second and fourth differ, each at two entries
    assert float(memory_refinement(keys, values)) == pytest.approx(4 / 4)
    assert float(memory_refinement(keys, keys)) == 0


def refinement_by_matrices(keys, values, temperature):
    """Eqs. 14 and 15 with whole one-hot matrices, and the softmax's gradient for theirs."""
    one_hot = []
    for cosines in (keys, values):
        hard = F.one_hot(cosines.argmax(1), cosines.shape[1]).to(cosines.dtype)
        soft = torch.softmax(cosines / temperature, 1)
        one_hot.append(hard + (soft - soft.detach()))  # exactly one and zero
    return (one_hot[0] - one_hot[1]).abs().sum(1).mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(2, 8), st.sampled_from([1.0, 0.2]), st.integers(0, 2**31))
def test_the_refinement_is_the_equation_with_its_straight_through_gradient(count, slots, temperature, seed):
    torch.manual_seed(seed)
    results = []
    cosines = (torch.rand(2, count, slots, dtype=torch.double) * 2 - 1).unbind()
    for loss in (memory_refinement, refinement_by_matrices):
        keys, values = (c.clone().requires_grad_() for c in cosines)
        value = loss(keys, values, temperature)
        value.backward()
        results.append((value.detach(), keys.grad, values.grad))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_the_pull_of_the_refinement_is_one_over_slots_and_temperature(temperature):
    """Of cosines that hardly differ: p (1 - p) / T from a slot's own probability, p p / T from the other's."""
    cosines = torch.zeros(2, 1, 512, dtype=torch.double)
    cosines[0, 0, 3] = cosines[1, 0, 7] = 1e-9
    keys, values = (c.clone().requires_grad_() for c in cosines)
    memory_refinement(keys, values, temperature).backward()
    expected = torch.zeros(1, 512, dtype=torch.double)
    expected[0, 3], expected[0, 7] = 1, -1  # away from the slot that differs, toward the other's
    expected /= 512 * temperature
    torch.testing.assert_close(keys.grad, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(values.grad, -expected, rtol=1e-6, atol=1e-9)


def test_descending_the_refinement_makes_the_choices_agree():
    torch.manual_seed(0)
    keys, values = torch.nn.functional.normalize(torch.randn(2, 8, 4), dim=-1)
    photo, sketch = torch.randn(2, 64, 4).unbind()
    photo.requires_grad_()
    sketch.requires_grad_()
    optimizer = torch.optim.Adam([photo, sketch], lr=0.02)
    found = []
    for _ in range(150):
        loss = memory_refinement(similarity(photo, keys), similarity(sketch, values))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.25 * found[0]


# ---- instruments --------------------------------------------------------------------------------------------------


def test_usage_and_its_perplexity():
    assert slot_counts(torch.tensor([[0, 2], [2, 2]]), 4).tolist() == [1, 0, 3, 0]
    assert perplexity(torch.tensor([5, 5, 0, 5, 5])) == pytest.approx(4)
    assert perplexity(torch.tensor([0, 9])) == pytest.approx(1)


def test_the_printed_softmax_is_close_to_uniform_over_512_slots_whatever_the_features():
    """Cosines lie in [-1, 1], so no weight of Eq. 7 is more than e^2 = 7.4 times another. The entropy is least when
    every cosine is 1 or -1, in some proportion: even then it is 92 % of the largest."""
    least = min(
        attention_entropy(torch.tensor([[1.0] * m + [-1.0] * (512 - m)]), 1.0) for m in range(0, 513, 4)
    )
    assert least > 0.92
    assert attention_entropy(torch.zeros(3, 7), 1.0) == pytest.approx(1.0)
    torch.manual_seed(0)
    cosines = torch.rand(100, 512) * 2 - 1
    assert attention_entropy(cosines, 1.0) > 0.95
    assert attention_entropy(cosines, 0.01) < 0.4
