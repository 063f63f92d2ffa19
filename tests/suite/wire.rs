//! The server of these stories behaves on the wire as Gitea does, tried with the client that the runner uses.

use std::time::Duration;

use proto::{
    ping::v1::{PingRequest, ping_service_client::PingServiceClient},
    runner::v1::{
        FetchTaskRequest, RegisterRequest, RegisterResponse, runner_service_client::RunnerServiceClient,
    },
    transport::{Options, Transport},
};
use tests::gitea::{Dialect, Errors, FakeGitea, Fault};
use tonic::{Code, Request, codec::CompressionEncoding};

fn transport(gitea: &FakeGitea) -> Transport {
    let options = Options { user_agent: "story".to_owned(), ..Options::default() };
    Transport::new(&gitea.url(), &options).expect("loopback is an address")
}

fn client(gitea: &FakeGitea) -> RunnerServiceClient<Transport> {
    let transport = transport(gitea);
    let origin = transport.origin().clone();
    let gzip = CompressionEncoding::Gzip;
    RunnerServiceClient::with_origin(transport, origin).accept_compressed(gzip).send_compressed(gzip)
}

async fn register(gitea: &FakeGitea) -> Result<RegisterResponse, tonic::Status> {
    let request = RegisterRequest {
        name: "r".to_owned(),
        token: gitea.registration_token(),
        labels: vec!["lab".to_owned()],
        ..RegisterRequest::default()
    };
    client(gitea).register(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn ping_says_hello_below_a_sub_path() {
    let gitea = FakeGitea::with(Dialect::default(), "/below/here");
    let transport = transport(&gitea);
    let origin = transport.origin().clone();
    let answer =
        PingServiceClient::with_origin(transport, origin).ping(PingRequest { data: "you".to_owned() }).await;
    assert_eq!(answer.expect("the server answers").into_inner().data, "Hello, you!");
}

#[tokio::test]
async fn an_unregistered_runner_reads_it_in_the_servers_dialect() {
    for (errors, code, text) in [
        (Errors::Gitea, Code::Unknown, "rpc error: code = Unauthenticated desc = unregistered runner"),
        (Errors::Forgejo, Code::Unauthenticated, "unregistered runner"),
    ] {
        let gitea = FakeGitea::with(Dialect { errors, ..Dialect::default() }, "");
        let refused =
            client(&gitea).fetch_task(FetchTaskRequest::default()).await.expect_err("nobody is registered");
        assert_eq!((refused.code(), refused.message()), (code, text));
    }
}

#[tokio::test]
async fn a_lost_answer_has_had_its_effect_and_a_lost_call_has_not() {
    let gitea = FakeGitea::start();
    gitea.fault("Register", Fault::LostCall);
    register(&gitea).await.expect_err("the call is lost");
    assert_eq!(gitea.state().runners.len(), 0);
    gitea.fault("Register", Fault::LostAnswer);
    register(&gitea).await.expect_err("the answer is lost");
    assert_eq!(gitea.state().runners.len(), 1);
    register(&gitea).await.expect("no fault is left");
}

#[tokio::test]
async fn a_proxys_page_is_no_answer_of_the_server() {
    let gitea = FakeGitea::start();
    for fault in [Fault::BadGateway, Fault::ProxyUnauthorized] {
        gitea.fault("FetchTask", fault);
        let refused =
            client(&gitea).fetch_task(FetchTaskRequest::default()).await.expect_err("a page is no answer");
        assert!(!refused.message().contains("unregistered"), "{refused}");
    }
}

#[tokio::test]
async fn the_server_keeps_its_state_while_it_is_away() {
    let gitea = FakeGitea::start();
    let runner = register(&gitea).await.expect("the server answers").runner.expect("a runner");
    tokio::task::spawn_blocking(move || {
        gitea.down();
        assert!(std::net::TcpStream::connect_timeout(&gitea.address(), Duration::from_secs(1)).is_err());
        gitea.up();
        assert!(std::net::TcpStream::connect_timeout(&gitea.address(), Duration::from_secs(1)).is_ok());
        assert_eq!(gitea.state().runners[0].uuid, runner.uuid);
        assert_eq!(runner.token.len(), 40);
    })
    .await
    .expect("the server goes and comes");
}

#[tokio::test]
async fn uuid_and_token_are_the_credentials() {
    let gitea = FakeGitea::start();
    let runner = register(&gitea).await.expect("the server answers").runner.expect("a runner");
    let mut request = Request::new(FetchTaskRequest::default());
    request.metadata_mut().insert("x-runner-uuid", runner.uuid.parse().expect("a header"));
    request.metadata_mut().insert("x-runner-token", runner.token.parse().expect("a header"));
    let answer = client(&gitea).fetch_task(request).await.expect("a registered runner may ask").into_inner();
    assert_eq!((answer.task, answer.tasks_version), (None, 1));
}
