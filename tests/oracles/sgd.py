"""SGD with momentum and weight decay on replicas of one network, parameter by parameter.

torch.optim.SGD's documented rule, after DistributedDataParallel's: gradients are averaged over
the processes, and every replica takes the same step.
"""

import torch


class Sgd:
    """Holds the velocity; ``step`` uses up the replicas' gradients."""

    def __init__(self, replicas, settings):
        self.replicas = [list(net.parameters()) for net in replicas]
        self.velocity = [torch.zeros_like(p) for p in self.replicas[0]]
        self.settings = settings

    def step(self):
        lr, decay, mu = (self.settings[n] for n in ("lr", "weight_decay", "sgd_momentum"))
        for i, velocity in enumerate(self.velocity):
            gradient = sum(replica[i].grad for replica in self.replicas) / len(self.replicas)
            velocity.mul_(mu).add_(gradient + decay * self.replicas[0][i].data)
            for replica in self.replicas:
                replica[i].data -= lr * velocity
                replica[i].grad = None
