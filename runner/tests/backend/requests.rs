//! What jobs cost the engine, counted in requests on their way to it.

use super::{
    Kept,
    counted::Counted,
    docker::{backend, finish, image, options, prepare, service, spec},
    print,
};
use esteira::{
    backend::{ContainerSpec, ImageRun, JobEnv, JobSpec, Ladder},
    cancel::Cancel,
};

#[tokio::test]
async fn setting_up_and_tearing_down_costs_few_requests() {
    // Create and start; and for a user who is not root, one command of two requests that gives him his folders.
    for (options_text, setup) in [("", 2), ("--user 1234", 4)] {
        let engine = Counted::engine();
        let address = engine.address.clone();
        let Some((backend, _state)) = backend(|config| config.docker_host = address).await else { return };
        // The engine's own socket is wherever the proxy is: not to be mounted.
        let mut spec = spec(options(options_text));
        spec.env.clear();
        engine.taken();
        let env = prepare(&backend, spec).await.expect("a place");
        assert_eq!(engine.taken(), setup, "{options_text}");
        for _ in 0..3 {
            print(&env, "true").await;
        }
        assert_eq!(engine.taken(), 0, "steps cost the engine nothing");
        finish(&backend, env).await;
        assert_eq!(engine.taken(), 1);
    }
}

#[tokio::test]
async fn services_and_actions_in_containers_cost_few_requests() {
    let engine = Counted::engine();
    let address = engine.address.clone();
    let Some((backend, _state)) = backend(|config| config.docker_host = address).await else { return };
    let services = vec![service("one", "", "sleep 600"), service("two", "", "sleep 600")];
    let spec = JobSpec { services, ..spec(ContainerSpec::default()) };
    engine.taken();
    let env = prepare(&backend, spec).await.expect("a place");
    let setup = engine.taken();
    assert!(setup <= 14, "{setup} requests for a job with two services");
    let run = ImageRun {
        container: ContainerSpec { image: image(), ..ContainerSpec::default() },
        entrypoint: vec!["true".into()],
        args: None,
        files: Vec::new(),
        collect: Vec::new(),
        ladder: Ladder::default(),
    };
    for _ in 0..2 {
        env.run_image(run.clone(), &mut Kept::default(), &Cancel::new()).await.expect("it ran");
        let action = engine.taken();
        assert!(action <= 6, "{action} requests for an action in a container");
    }
    finish(&backend, env).await;
}
