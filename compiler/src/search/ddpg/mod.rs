//! An agent that learns a decision for each step of an episode from the episode's one reward: deep deterministic policy
//! gradients (Lillicrap et al., ICLR 2016), as AMC (He et al., ECCV 2018) and HAQ (Wang et al., CVPR 2019) use it.
//!
//! A state is a vector of numbers about [0, 1], an action one number in [0, 1]. What they mean is for the environment.
//! All steps of an episode share its reward; a moving average of rewards is taken off. Deterministic by seed.

mod network;
mod replay;

use self::network::{Head, Network, Optimizer};
use self::replay::{Replay, Transition};
use crate::rng::Pcg32;

/// How the agent learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Width of both hidden layers of actor and critic.
    pub hidden: usize,
    /// Adam's step of the actor.
    pub actor_rate: f32,
    /// Adam's step of the critic.
    pub critic_rate: f32,
    /// Share by which the target networks follow at each update.
    pub follow: f32,
    /// What a later step counts beside an earlier one.
    pub discount: f32,
    /// Transitions an update.
    pub batch: usize,
    /// Transitions that are remembered.
    pub memory: usize,
    /// Updates for each step of an episode.
    pub updates: usize,
    /// Episodes with uniformly random actions, before any learning.
    pub warmup: usize,
    /// Standard deviation of the exploration after warm-up.
    pub sigma: f32,
    /// Factor of `sigma` from episode to episode.
    pub decay: f32,
    /// Standard deviation of the exploration that always stays.
    pub least_sigma: f32,
    /// Weight of the past in the moving average of rewards.
    pub baseline: f32,
}

impl Config {
    /// For a search of `episodes` episodes of `steps` steps: the published networks, rates, batch and baseline. Where
    /// AMC and HAQ do not discount, so that the critic sums an episode's reward up over the steps to come, here it
    /// estimates the reward itself: on a task of independent steps three hundred episodes then come three times as near to the best.
    pub fn new(episodes: usize, steps: usize) -> Config {
        let warmup = (episodes / 5).clamp(1, 100);
        let learning = (episodes - warmup.min(episodes)).max(1);
        Config {
            hidden: 300,
            actor_rate: 1e-4,
            critic_rate: 1e-3,
            follow: 0.01,
            discount: 0.0,
            batch: 64,
            memory: (episodes * steps).max(64),
            updates: 3,
            warmup,
            sigma: 0.5,
            // A hundredth of the exploration would be left in the end, but episodes that say nothing new are wasted.
            decay: 0.01f32.powf(1.0 / learning as f32),
            least_sigma: 0.08,
            baseline: 0.5,
        }
    }
}

/// What was seen and done at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The state.
    pub state: Vec<f32>,
    /// The action that counts: the agent's, or what the environment made of it.
    pub action: f32,
}

/// Actor and critic, their slow copies, and what they remember.
#[derive(Clone, Debug)]
pub struct Agent {
    config: Config,
    actor: Network,
    critic: Network,
    slow_actor: Network,
    slow_critic: Network,
    actor_steps: Optimizer,
    critic_steps: Optimizer,
    replay: Replay,
    random: Pcg32,
    episodes: usize,
    /// Moving average of rewards, once there is one.
    average: Option<f32>,
}

impl Agent {
    /// For states of `len` numbers.
    pub fn new(len: usize, config: Config, seed: u64) -> Agent {
        let mut random = Pcg32::new(seed, 0xddb6);
        let actor = Network::new(len, config.hidden, Head::Sigmoid, &mut random);
        let critic = Network::new(len + 1, config.hidden, Head::Linear, &mut random);
        Agent {
            actor_steps: Optimizer::new(&actor, config.actor_rate),
            critic_steps: Optimizer::new(&critic, config.critic_rate),
            slow_actor: actor.clone(),
            slow_critic: critic.clone(),
            actor,
            critic,
            replay: Replay::new(config.memory),
            random,
            episodes: 0,
            average: None,
            config,
        }
    }

    /// An action to try: random at first, then the actor's with noise that fades from episode to episode, its standard
    /// deviation times `wider`.
    pub fn explore(&mut self, state: &[f32], wider: f32) -> f32 {
        let Some(learned) = self.episodes.checked_sub(self.config.warmup) else { return self.random.unit() };
        let sigma = (self.config.sigma * self.config.decay.powi(learned as i32)).max(self.config.least_sigma);
        truncated_normal(self.act(state), sigma * wider, &mut self.random)
    }

    /// The actor's action.
    pub fn act(&self, state: &[f32]) -> f32 {
        self.actor.outputs(state)[0]
    }

    /// Takes in an episode and its reward, and learns.
    pub fn learn(&mut self, episode: &[Step], reward: f32) {
        for (i, step) in episode.iter().enumerate() {
            let next = episode.get(i + 1).map(|next| next.state.clone());
            self.replay.push(Transition { state: step.state.clone(), action: step.action, reward, next });
        }
        self.episodes += 1;
        if self.episodes >= self.config.warmup {
            (0..self.config.updates * episode.len()).for_each(|_| self.update());
        }
    }

    /// One step of critic and actor.
    fn update(&mut self) {
        let batch = self.replay.sample(self.config.batch, &mut self.random);
        if batch.is_empty() {
            return;
        }
        let n = batch.len();
        let mean = batch.iter().map(|t| t.reward).sum::<f32>() / n as f32;
        let past = self.config.baseline;
        let average = self.average.map_or(mean, |average| past * average + (1.0 - past) * mean);
        self.average = Some(average);

        let targets = self.targets(&batch, average);
        let tried: Vec<f32> = batch.iter().flat_map(|t| t.state.iter().copied().chain([t.action])).collect();
        let pass = self.critic.forward(&tried);
        let slope: Vec<f32> = pass.outputs().iter().zip(&targets).map(|(q, y)| 2.0 * (q - y) / n as f32).collect();
        let gradient = self.critic.gradient(&pass, &self.critic.backward(&pass, &slope));
        self.critic_steps.step(&mut self.critic, &gradient);

        // The actor climbs the critic.
        let states: Vec<f32> = batch.iter().flat_map(|t| t.state.iter().copied()).collect();
        let acted = self.actor.forward(&states);
        let judged: Vec<f32> =
            batch.iter().zip(acted.outputs()).flat_map(|(t, &a)| t.state.iter().copied().chain([a])).collect();
        let pass = self.critic.forward(&judged);
        let towards = self.critic.towards(&self.critic.backward(&pass, &vec![-1.0 / n as f32; n]));
        let slope: Vec<f32> = towards.chunks_exact(judged.len() / n).filter_map(|x| x.last().copied()).collect();
        let gradient = self.actor.gradient(&acted, &self.actor.backward(&acted, &slope));
        self.actor_steps.step(&mut self.actor, &gradient);

        self.slow_actor.follow(&self.actor, self.config.follow);
        self.slow_critic.follow(&self.critic, self.config.follow);
    }

    /// `reward - average`, and what the slow networks expect of the next step.
    fn targets(&self, batch: &[&Transition], average: f32) -> Vec<f32> {
        let next: Vec<&[f32]> = batch.iter().filter_map(|t| t.next.as_deref()).collect();
        let actions = self.slow_actor.outputs(&next.concat());
        let judged: Vec<f32> =
            next.iter().zip(&actions).flat_map(|(state, &a)| state.iter().copied().chain([a])).collect();
        let mut expected = self.slow_critic.outputs(&judged).into_iter();
        let later = |t: &&Transition| t.next.as_ref().and_then(|_| expected.next()).unwrap_or_default();
        let later: Vec<f32> = batch.iter().map(later).collect();
        batch.iter().zip(later).map(|(t, later)| t.reward - average + self.config.discount * later).collect()
    }
}

/// An episode that ends where none has ended before: begun anew some times, exploring wider and wider, as what is
/// known already says nothing new. `episode` takes what to multiply the exploration by.
///
/// # Errors
/// Those of `episode`.
pub fn unknown<T, E>(
    episode: &mut dyn FnMut(f32) -> Result<(T, Vec<Step>), E>,
    mut is_known: impl FnMut(&T) -> bool,
) -> Result<(T, Vec<Step>), E> {
    const RETRIES: i32 = 5;
    const WIDER: f32 = 1.5;
    let mut ended = episode(1.0)?;
    for again in 1..=RETRIES {
        if !is_known(&ended.0) {
            break;
        }
        ended = episode(WIDER.powi(again))?;
    }
    Ok(ended)
}

/// What the rows of a table say beside one another, for states: each column from 0 to 1; 0 where all rows have the same.
pub fn normalised(rows: &[Vec<f64>]) -> Vec<Vec<f32>> {
    let bounds = |column: usize| {
        let of = || rows.iter().map(|row| row[column]);
        (of().fold(f64::INFINITY, f64::min), of().fold(f64::NEG_INFINITY, f64::max))
    };
    let scaled = |(column, x): (usize, &f64)| {
        let (least, most) = bounds(column);
        if most > least { ((x - least) / (most - least)) as f32 } else { 0.0 }
    };
    rows.iter().map(|row| row.iter().enumerate().map(scaled).collect()).collect()
}

/// A number from the normal distribution around `mean` that lies in [0, 1].
pub fn truncated_normal(mean: f32, sigma: f32, random: &mut Pcg32) -> f32 {
    // From any mean in [0, 1] about half of the draws are inside, when sigma is small; more tries than ever needed.
    for _ in 0..1000 {
        let (u, v) = (1.0 - random.unit(), random.unit());
        let x = mean + sigma * (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos();
        if (0.0..=1.0).contains(&x) {
            return x;
        }
    }
    mean.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: usize = 6;
    const EPISODES: usize = 300;

    /// Steps that do not depend on one another; the reward is 1 less the mean squared distance from `wanted`.
    struct Separable {
        wanted: [f32; STEPS],
    }

    impl Separable {
        fn new(seed: u64) -> Separable {
            let mut random = Pcg32::new(seed, 7);
            Separable { wanted: [(); STEPS].map(|()| random.unit()) }
        }

        /// One that names the step, and the action before it.
        fn state(&self, step: usize, before: f32) -> Vec<f32> {
            (0..STEPS).map(|i| f32::from(u8::from(i == step))).chain([before]).collect()
        }

        fn reward(&self, actions: &[f32]) -> f32 {
            let distance = actions.iter().zip(&self.wanted).map(|(a, w)| (a - w) * (a - w)).sum::<f32>();
            1.0 - distance / STEPS as f32
        }

        /// The reward of the best episode.
        fn search(&self, seed: u64) -> f32 {
            let mut agent = Agent::new(STEPS + 1, Config::new(EPISODES, STEPS), seed);
            let mut best = f32::NEG_INFINITY;
            for _ in 0..EPISODES {
                let mut episode: Vec<Step> = Vec::new();
                for step in 0..STEPS {
                    let state = self.state(step, episode.last().map_or(1.0, |step| step.action));
                    let action = agent.explore(&state, 1.0);
                    episode.push(Step { state, action });
                }
                let reward = self.reward(&episode.iter().map(|step| step.action).collect::<Vec<_>>());
                agent.learn(&episode, reward);
                best = best.max(reward);
            }
            best
        }

        fn guess(&self, seed: u64) -> f32 {
            let mut random = Pcg32::new(seed, 9);
            let episode = |_| self.reward(&[(); STEPS].map(|()| random.unit()));
            (0..EPISODES).map(episode).fold(f32::NEG_INFINITY, f32::max)
        }
    }

    #[test]
    fn finds_what_each_step_wants() {
        for seed in 0..5 {
            let environment = Separable::new(seed);
            let (learned, guessed) = (environment.search(seed), environment.guess(seed));
            assert!(learned >= 0.98, "seed {seed}: {learned}");
            assert!(learned > guessed, "seed {seed}: {learned} is no better than random, {guessed}");
        }
    }

    #[test]
    fn the_same_seed_learns_the_same() {
        let run = |seed| {
            let mut agent = Agent::new(2, Config { warmup: 2, ..Config::new(10, 2) }, seed);
            for i in 0..6 {
                let state = vec![0.1 * i as f32, 0.5];
                let action = agent.explore(&state, 1.0);
                agent.learn(&[Step { state: state.clone(), action }, Step { state, action }], action);
            }
            agent.act(&[0.3, 0.5])
        };
        assert_eq!(run(1).to_bits(), run(1).to_bits());
        assert_ne!(run(1).to_bits(), run(2).to_bits());
    }

    #[test]
    fn noise_stays_inside() {
        let mut random = Pcg32::new(1, 1);
        let draws: Vec<f32> = (0..2000).map(|_| truncated_normal(0.9, 0.3, &mut random)).collect();
        assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        assert!((0.6..0.85).contains(&mean), "{mean}");
    }
}
