"""The loop that a good engineer would write with plain PyTorch, and the one of PyTorch's word_language_model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class PlainModel(nn.Module):
    """Embedding, torch's recurrent module, linear layer; time first, which is what torch's kernels like best."""

    def __init__(self, cell: str, vocabulary: int, size: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, size)
        self.rnn = KINDS[cell](size, size, layers, dropout=dropout if layers > 1 else 0.0)
        self.output = nn.Linear(size, vocabulary)
        for weight in (self.embedding.weight, self.output.weight):
            nn.init.uniform_(weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, ids: Tensor, state: tuple[Tensor, ...] | Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | Tensor]:
        outputs, state = self.rnn(self.drop(self.embedding(ids)), state)
        return self.output(self.drop(outputs)), state


def detach(state: tuple[Tensor, ...] | Tensor) -> tuple[Tensor, ...] | Tensor:
    """Cut the state off from the steps before."""
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def batches(tokens: Tensor, batch_size: int, bptt: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(time, batch) inputs and targets, round and round."""
    rows = len(tokens) // batch_size
    data = tokens[: rows * batch_size].view(batch_size, rows).t().contiguous()
    while True:
        for begin in range(0, rows - 1 - bptt, bptt):
            yield data[begin : begin + bptt], data[begin + 1 : begin + 1 + bptt]


class PlainLoop:
    """One step after the other: forward, cross-entropy, backward, fused optimizer; the loss is read at intervals."""

    def __init__(
        self, cell: str, vocabulary: int, size: int, tokens: Tensor, batch_size: int, bptt: int, device: str
    ) -> None:
        torch.manual_seed(1)
        self.model = PlainModel(cell, vocabulary, size).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self._batches = batches(tokens.to(device), batch_size, bptt)
        self._state: tuple[Tensor, ...] | Tensor | None = None
        self._losses: list[Tensor] = []
        self._vocabulary = vocabulary

    def steps(self, count: int) -> None:
        """Train."""
        for _ in range(count):
            inputs, targets = next(self._batches)
            logits, state = self.model(inputs, self._state)
            self._state = detach(state)
            loss = functional.cross_entropy(logits.view(-1, self._vocabulary), targets.reshape(-1))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self._losses.append(loss.detach())
            if len(self._losses) == 50:
                torch.stack(self._losses).mean().item()
                self._losses.clear()


class ReadmeLoop:
    """word_language_model: 2 layers, dropout 0.2, NLL of log_softmax, gradient clipped at 0.25, plain SGD by hand."""

    def __init__(
        self, cell: str, vocabulary: int, size: int, tokens: Tensor, batch_size: int, bptt: int, device: str
    ) -> None:
        torch.manual_seed(1)
        self.model = PlainModel(cell, vocabulary, size, layers=2, dropout=0.2).to(device)
        self._batches = batches(tokens.to(device), batch_size, bptt)
        self._state: tuple[Tensor, ...] | Tensor | None = None
        self._vocabulary = vocabulary
        self._total = 0.0

    def steps(self, count: int) -> None:
        """Train."""
        for _ in range(count):
            inputs, targets = next(self._batches)
            self.model.zero_grad()
            logits, state = self.model(inputs, None if self._state is None else detach(self._state))
            self._state = state
            scores = functional.log_softmax(logits.view(-1, self._vocabulary), dim=1)
            loss = functional.nll_loss(scores, targets.reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
            for parameter in self.model.parameters():
                assert parameter.grad is not None
                parameter.data.add_(parameter.grad, alpha=-20 / 100)
            self._total += loss.item()
