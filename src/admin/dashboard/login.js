// The login page: a token is exchanged for a session's cookie.

const form = document.getElementById("login");
const field = document.getElementById("token");
const problem = document.getElementById("problem");
const button = form.querySelector("button");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  button.disabled = true;
  try {
    const answer = await fetch("/api/v1/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token: field.value.trim() }),
    });
    if (answer.ok) {
      location.replace("/" + location.hash);
      return;
    }
    const { error } = await answer.json();
    problem.textContent = `${error.message}.`;
    field.focus();
    field.select();
  } catch {
    problem.textContent = "The gateway does not answer.";
  } finally {
    button.disabled = false;
  }
});
