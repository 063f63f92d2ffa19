//! What every place has to do, whatever it is made of.

use std::{collections::BTreeMap, fs, time::Duration};

use esteira::{
    backend::{BackendError, Collected, ExecSpec, Exit, FileIn, JobEnv, Ladder},
    cancel::Cancel,
};

use super::{CancelAtFirst, Kept, ask, content, print, run, script};

/// All of it, in one place.
pub(crate) async fn keeps<E: JobEnv>(env: &E) {
    the_layout_is_usable(env).await;
    exits_are_told_apart(env).await;
    output_arrives_whole_and_apart(env).await;
    files_go_in_and_come_out(env).await;
    hostile_files_are_refused(env, &["pipe", "link", "folder"]).await;
    what_cannot_start_says_why(env).await;
    a_held_output_does_not_hold_the_step(env).await;
    a_cancel_ends_the_tree(env).await;
    a_stubborn_process_is_killed(env).await;
    archives_go_both_ways(env).await;
    files_are_hashed(env).await;
}

/// What is kept where no agent can run: the same, but for what only an agent can see.
pub(crate) async fn keeps_without_agent<E: JobEnv>(env: &E) {
    the_layout_is_usable(env).await;
    files_go_in_and_come_out(env).await;
    // The archives of some engines follow a link: inside the container, where the step could read as well.
    hostile_files_are_refused(env, &["pipe", "folder"]).await;
    archives_go_both_ways(env).await;
    files_are_hashed(env).await;
    assert_eq!(run(env, script(env, "echo out; echo err >&2; exit 3")).await.0.exit, Exit::Code(3));
    let quick = Ladder { interrupt: Duration::from_millis(300), terminate: Duration::from_millis(300) };
    let (exit, _) = cancelled(env, "trap '' INT; echo ready; sleep 64", quick).await;
    assert_ne!(exit, Exit::Code(0));
    let left = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep [6]4' || true";
    assert_eq!(print(env, left).await, "0\n");
}

/// What is kept when processes have a terminal.
pub(crate) async fn keeps_with_terminal<E: JobEnv>(env: &E) {
    exits_are_told_apart(env).await;
    files_go_in_and_come_out(env).await;
    what_cannot_start_says_why(env).await;
    a_cancel_ends_the_tree(env).await;
    a_stubborn_process_is_killed(env).await;
    let asked = "for fd in 0 1 2; do test -t $fd && echo $fd; done; echo controls > /dev/tty; echo $TERM; echo err >&2; printf end";
    assert_eq!(print(env, asked).await, "0\n1\n2\ncontrols\nxterm\nerr\nend", "no newline is translated");
    // Nobody types, and everybody who asks is told so: more of them than find it out at once.
    let readers = "for n in $(seq 18); do cat; done; read line || echo done";
    assert_eq!(print(env, readers).await, "done\n");
    let text = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let (_, kept) = run(env, script(env, text)).await;
    let lines: Vec<&str> = kept.out().lines().collect();
    assert!(lines.iter().enumerate().all(|(number, line)| *line == format!("line {number}")), "in order");
    assert_eq!(lines.len(), 20000);
    let (outcome, _) = run(env, script(env, "trap '' HUP; sleep 66 & echo begun")).await;
    assert!(outcome.output_held, "it holds the terminal");
}

async fn the_layout_is_usable<E: JobEnv>(env: &E) {
    let layout = env.layout();
    for folder in [&layout.workspace, &layout.temp, &layout.actions, &layout.home, &layout.tool_cache] {
        assert!(folder.starts_with('/'), "{folder}");
    }
    let text = format!(
        "cd {} && echo a > file && cd {} && echo b > file && mkdir {}/one && echo $FROM_JOB",
        layout.workspace, layout.temp, layout.actions
    );
    assert_eq!(print(env, &text).await, "yes\n");
    assert_eq!(print(env, "pwd; cat file").await, format!("{}\na\n", layout.workspace));
    assert!(layout.environ["PATH"].contains("/bin"));
    assert_eq!(layout.os, "Linux");
}

async fn exits_are_told_apart<E: JobEnv>(env: &E) {
    assert_eq!(run(env, script(env, "exit 3")).await.0.exit, Exit::Code(3));
    assert_eq!(run(env, script(env, "kill -9 $$")).await.0.exit, Exit::Signal(9));
}

async fn output_arrives_whole_and_apart<E: JobEnv>(env: &E) {
    let text = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; printf end >&2";
    let (outcome, kept) = run(env, script(env, text)).await;
    assert_eq!(outcome.exit, Exit::Code(0));
    let mut lines = kept.out().lines();
    let in_order = (0..20000).all(|number| lines.next() == Some(&*format!("line {number}")));
    assert!(in_order && lines.next().is_none(), "20000 lines in order");
    assert_eq!(kept.err(), "end");
    assert!(!outcome.output_held);
    // Nothing waits for input.
    assert_eq!(print(env, "cat; echo done").await, "done\n");
}

async fn files_go_in_and_come_out<E: JobEnv>(env: &E) {
    let temp = &env.layout().temp;
    let spec = ExecSpec {
        files: vec![
            FileIn {
                path: format!("{temp}/deep/er/script"),
                mode: 0o755,
                bytes: "#!/bin/sh\necho $1; echo out > out".into(),
            },
            FileIn { path: format!("{temp}/empty"), mode: 0o644, bytes: "".into() },
        ],
        collect: vec![
            ask(format!("{temp}/deep/er/out"), 4),
            ask(format!("{temp}/deep/er/out"), 3),
            ask(format!("{temp}/empty"), 10),
            ask(format!("{temp}/none"), 10),
        ],
        argv: vec!["./script".into(), "argument with 'quotes'".into()],
        cwd: format!("{temp}/deep/er"),
        ..script(env, "")
    };
    let (outcome, kept) = run(env, spec).await;
    assert_eq!((outcome.exit, kept.out()), (Exit::Code(0), "argument with 'quotes'\n"));
    assert_eq!(outcome.files, [content("out\n"), Collected::TooLarge(4), content(""), Collected::Missing]);
    assert_eq!(env.read(ask(format!("{temp}/deep/er/out"), 100)).await.expect("read"), content("out\n"));
}

async fn hostile_files_are_refused<E: JobEnv>(env: &E, names: &[&str]) {
    let temp = &env.layout().temp;
    let collect = names.iter().map(|name| ask(format!("{temp}/{name}"), 100)).collect();
    let text = format!("cd {temp} && mkfifo pipe && ln -s /etc/passwd link && mkdir folder");
    let (outcome, _) = run(env, ExecSpec { collect, ..script(env, &text) }).await;
    assert_eq!(outcome.exit, Exit::Code(0));
    assert!(outcome.files.iter().all(|file| matches!(file, Collected::Refused(_))), "{:?}", outcome.files);
}

async fn what_cannot_start_says_why<E: JobEnv>(env: &E) {
    let why = async |spec: ExecSpec| match run(env, spec).await.0.exit {
        Exit::NotStarted(reason) => reason,
        other => panic!("started: {other:?}"),
    };
    let argv = vec!["no-such-program".to_owned()];
    let reason = why(ExecSpec { argv, ..script(env, "") }).await;
    assert!(reason.starts_with("no-such-program: not found in PATH ("), "{reason}");
    let reason = why(ExecSpec { cwd: "/no/such/folder".into(), ..script(env, "true") }).await;
    assert_eq!(reason, "the working directory /no/such/folder does not exist");
}

async fn a_held_output_does_not_hold_the_step<E: JobEnv>(env: &E) {
    let (outcome, kept) = run(env, script(env, "sleep 30 & echo $!")).await;
    assert_eq!(outcome.exit, Exit::Code(0));
    assert!(outcome.output_held);
    // This process and no other: on the host, other people's run too.
    let pid: u32 = kept.out().trim().parse().expect("the script printed a process id");
    print(env, &format!("kill {pid}")).await;
}

/// Starts a script, waits for its first line, cancels it, and waits for its end.
async fn cancelled<E: JobEnv>(env: &E, text: &str, ladder: Ladder) -> (Exit, String) {
    let cancel = Cancel::new();
    let mut output = CancelAtFirst { kept: Kept::default(), cancel: cancel.clone() };
    let outcome =
        env.exec(ExecSpec { ladder, ..script(env, text) }, &mut output, &cancel).await.expect("an end");
    assert_eq!(outcome.lost, Vec::<String>::new());
    (outcome.exit, output.kept.out().to_owned())
}

async fn a_cancel_ends_the_tree<E: JobEnv>(env: &E) {
    let text = "(setsid sh -c 'echo $$ > daemon; exec sleep 62' &) ; sleep 63 & \
                trap 'echo interrupted; exit 9' INT; while [ ! -s daemon ]; do sleep 0.01; done; echo ready; wait";
    let (exit, out) = cancelled(env, text, Ladder::default()).await;
    assert_eq!((exit, out.as_str()), (Exit::Code(9), "ready\ninterrupted\n"));
    let left = print(env, "kill -0 $(cat daemon) 2>/dev/null && echo alive || echo gone").await;
    assert_eq!(left, "gone\n");
}

async fn a_stubborn_process_is_killed<E: JobEnv>(env: &E) {
    let quick = Ladder { interrupt: Duration::from_millis(50), terminate: Duration::from_millis(50) };
    let text = "trap '' INT TERM; echo ready; while :; do sleep 1; done";
    assert_eq!(cancelled(env, text, quick).await.0, Exit::Signal(9));
}

async fn archives_go_both_ways<E: JobEnv>(env: &E) {
    let scratch = tempfile::tempdir().expect("a folder");
    let archive = scratch.path().join("archive.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).expect("a file"));
    let big = vec![b'x'; 1_500_000];
    for (name, mode, content) in
        [("sub/tool", 0o755, b"#!/bin/sh\necho hello".as_slice()), ("big", 0o644, big.as_slice())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, name, content).expect("appended");
    }
    builder.into_inner().expect("finished").sync_all().expect("written");
    let into = format!("{}/action", env.layout().actions);
    env.unpack(&archive, &into).await.expect("unpacked");
    assert_eq!(print(env, &format!("{into}/sub/tool; wc -c < {into}/big")).await, "hello\n1500000\n");

    let back = scratch.path().join("back.tar");
    env.pack(&into, &back).await.expect("packed");
    let mut names: Vec<String> = tar::Archive::new(fs::File::open(&back).expect("a file"))
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["big", "sub", "sub/tool"]);

    let missing = env.pack("/no/such/folder", &back).await;
    assert!(matches!(missing, Err(BackendError::Refused(reason)) if reason.contains("/no/such/folder")));
}

async fn files_are_hashed<E: JobEnv>(env: &E) {
    print(env, "mkdir -p hashed && printf A > hashed/a.lock && printf B > hashed/b.lock").await;
    let patterns = vec!["hashed/*.lock".to_owned(), "!hashed/b*".to_owned()];
    let hex = env.hash_files(patterns, false).await.expect("hashed");
    // SHA-256 of the SHA-256 of "A".
    assert_eq!(hex, "1cd6ef71e6e0ff46ad2609d403dc3fee244417089aa4461245a4e4fe23a55e42");
    assert_eq!(env.hash_files(vec!["none/**".to_owned()], false).await.expect("hashed"), "");
    let _: &BTreeMap<String, String> = &env.layout().environ;
}
