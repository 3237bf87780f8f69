"""A small vision policy and how it learns: cloning the expert, then PPO in the simulator.

| module | |
|---|---|
| `network` | the network in NumPy: what drives, without torch |
| `torch_network` | the same network in torch: what learns |
| `lessons` | what is learnt from: files that `roadloop data lessons` writes |
| `look` | the same lessons with the pictures of another engine |
| `clone` | supervised learning of the lessons |
| `ppo` | reinforcement learning in a vector environment, with Stable-Baselines3 |

Learning needs `pip install 'roadloop[learn]'`; driving needs NumPy and safetensors only.
"""
